import { createChat } from './chat.ts';
import { EngineDisposedError, InvalidOptionError, UnsupportedModelError } from './errors.ts';
import { closeGpu, type Gpu } from './gpu/device.ts';
import { createStagingRing } from './gpu/readback.ts';
import { gpuIdle } from './gpu/submit.ts';
import { maxRows } from './kernels/matmul_rows.ts';
import { allOrAbort } from './model/abort.ts';
import { renderChat } from './model/chat_template.ts';
import { createForward, dispatchesPerPass, type Forward } from './model/forward.ts';
import { openPair, type Role, readWeights } from './model/load.ts';
import type { OpenedModel } from './model/opened_model.ts';
import { findRowMismatches } from './model/self_test.ts';
import type { ModelSource } from './model/source.ts';
import { checkWeightLimits, uploadWeights, type Weights, weightFormats } from './model/weights.ts';
import { type ParsedEngineOptions, parseCostOptions, parseGenerateOptions, parsePrompt } from './options.ts';
import { createRun } from './run.ts';
import { MAX_STOP_TOKENS } from './sampling_options.ts';
import { measureCosts } from './speculative/costs.ts';
import { type Decoder, decode } from './speculative/decode.ts';
import { createDraftLengthPolicy } from './speculative/draft_length.ts';
import { nothingFed } from './speculative/fed_tokens.ts';
import { LOGPROBS_BYTES } from './speculative/logprobs.ts';
import { createMetrics, prometheusText } from './speculative/metrics.ts';
import { RECORD_BYTES } from './speculative/record.ts';
import { createRequest, type Request } from './speculative/request.ts';
import { createRoundPlan, dispatchesPerRound } from './speculative/round.ts';
import { greedySampling } from './speculative/sampler.ts';
import { createSequences } from './speculative/sequence.ts';
import { finishLine } from './speculative/stats.ts';
import type { Engine, EngineInfo, GenerateRun, ModelInfo, TokenizerLike } from './types.ts';

/** The default `contextLength` never exceeds this: the KV cache grows with it. */
const defaultContextLimit = 4096;
/** Rows of one prefill pass. */
const prefillRows = 64;

export type CoreOptions = Pick<
  ParsedEngineOptions,
  | 'contextLength'
  | 'dtype'
  | 'ngram'
  | 'roundsInFlight'
  | 'modelName'
  | 'metricsPrefix'
  | 'logMetrics'
  | 'onProgress'
  | 'signal'
> & { tokenizer?: TokenizerLike };

/** Loads a pair onto an opened device. On any failure, an abort included, everything made so far is freed. */
export async function createEngineOn(
  gpu: Gpu,
  targetSource: ModelSource,
  draftSource: ModelSource | null,
  options: CoreOptions,
): Promise<Engine> {
  const startedAt = performance.now();
  try {
    const { target, draft } = await openPair(targetSource, draftSource, {
      ...(options.signal && { signal: options.signal }),
      ...(options.tokenizer && { tokenizer: options.tokenizer }),
    });
    const loaded = await build(gpu, target, draft, options);
    options.signal?.throwIfAborted();
    return serve(gpu, target, loaded, options, performance.now() - startedAt);
  } catch (error) {
    const cause = options.signal?.aborted ? options.signal.reason : (gpu.failure ?? error);
    closeGpu(gpu);
    throw cause;
  }
}

type Loaded = { decoder: Decoder; info: Omit<EngineInfo, 'loadTimeMs'> };

/** Checks what can be told without the weights, uploads these, compiles, self-tests and warms up. */
async function build(gpu: Gpu, target: OpenedModel, draft: OpenedModel | null, options: CoreOptions): Promise<Loaded> {
  const files = draft === null ? [target] : [target, draft];
  const formats = weightFormats[options.dtype];
  for (const { url, config } of files) checkWeightLimits(gpu, url, config, formats);
  const contextLength = contextLengthOf(files, options.contextLength);
  checkStopTokens(target);
  // Both at once. The first failure ends the other download.
  const weights: Weights[] = await allOrAbort(
    options.signal ?? undefined,
    files.map((model, i) => (signal: AbortSignal) => {
      const role: Role = i === 0 ? 'target' : 'draft';
      const rows = readWeights(model, role, { signal, ...(options.onProgress && { onProgress: options.onProgress }) });
      return uploadWeights(gpu, role, model, rows, formats, signal);
    }),
  );
  options.signal?.throwIfAborted();
  const matrices = files.flatMap(({ config: { hiddenSize, headCount, headDim, ffnSize } }) => [
    { inputSize: hiddenSize, format: formats.vocabulary },
    ...[hiddenSize, headCount * headDim, ffnSize].map((inputSize) => ({ inputSize, format: formats.layers })),
  ]);
  const paddedRows = (await findRowMismatches(gpu, matrices)).length > 0;
  options.signal?.throwIfAborted();
  const forwards = await Promise.all(
    files.map(({ config }, i) =>
      createForward(gpu, i === 0 ? 'target' : 'draft', config, weights[i] as Weights, {
        slots: 1,
        contextLength,
        rowCapacity: paddedRows ? maxRows : prefillRows,
        paddedRows,
      }),
    ),
  );
  const sequences = createSequences(gpu, { slots: 1, contextLength, vocabSize: target.config.vocabSize });
  const [targetForward, draftForward = null] = forwards as [Forward, Forward?];
  const plan = await createRoundPlan(gpu, {
    target: targetForward,
    draft: draftForward,
    ngram: options.ngram,
    sequences,
    slot: 0,
  });
  const ring = createStagingRing(gpu, 'record', options.roundsInFlight + 1, RECORD_BYTES + LOGPROBS_BYTES);
  const drafter = draft !== null ? 'model' : options.ngram !== null ? 'ngram' : null;
  const costs = drafter && (await measureCosts(gpu, plan, sequences, { sampleCount: 3, quick: true }));
  options.signal?.throwIfAborted();
  const decoder: Decoder = {
    gpu,
    plan,
    sequences,
    ring,
    roundsInFlight: options.roundsInFlight,
    epoch: 0,
    policy: null, // nothing is to be learnt from the warm-up
    fed: nothingFed,
  };
  // One short request of each kind: drivers finish compiling at the first dispatch.
  for (const draftLength of drafter === null ? [0] : [0, 2]) {
    const limit = Math.min(contextLength, 3);
    await decode(
      decoder,
      {
        promptTokens: [0],
        limit,
        stopTokens: [],
        sampling: greedySampling,
        logprobs: false,
        topLogprobs: 0,
        draftLength,
      },
      { onStart() {}, onRecord() {}, isCancelled: () => options.signal?.aborted ?? false },
    );
  }
  decoder.fed = nothingFed;
  decoder.policy = drafter && costs && createDraftLengthPolicy(costs, drafter);
  await gpuIdle(gpu);
  const models = files.map((model, i) => modelInfo(model, weights[i] as Weights, forwards[i] as Forward));
  const { maxBufferSize, maxStorageBufferBindingSize, maxComputeWorkgroupStorageSize } = gpu.device.limits;
  return {
    decoder,
    info: {
      adapter: gpu.adapter,
      features: gpu.features,
      limits: { maxBufferSize, maxStorageBufferBindingSize, maxComputeWorkgroupStorageSize },
      // Padded to one kernel, rows agree by construction.
      lossless: 'exact',
      paddedRows,
      target: models[0] as ModelInfo,
      draft: models[1] ?? null,
      drafter,
      contextLength,
      dtype: options.dtype,
      roundsInFlight: options.roundsInFlight,
      dispatchesPerRound: dispatchesPerRound(plan),
      costs,
      gpuBytes: gpu.bytes,
    },
  };
}

/** The engine's face: requests take turns, everything ends with `dispose`. */
function serve(
  gpu: Gpu,
  { config, tokenizer, chatTemplate }: OpenedModel,
  { decoder, info }: Loaded,
  options: CoreOptions,
  loadTimeMs: number,
): Engine {
  const { contextLength } = info;
  const metrics = createMetrics({ prefix: options.metricsPrefix, modelName: options.modelName });
  const requests = new Set<Request>();
  let requestCount = 0;
  let disposed = false;
  let turn: Promise<void> = Promise.resolve();
  /** Runs `work` when all that was queued before it has ended. */
  const queued = <T>(work: () => Promise<T>): Promise<T> => {
    const result = turn.then(work);
    turn = result.then(
      () => {},
      () => {},
    );
    return result;
  };
  const checkAlive = (): void => {
    if (disposed) throw disposedError();
    if (gpu.failure !== null) throw gpu.failure;
  };

  const engine: Engine = {
    info: { ...info, loadTimeMs },
    generate(prompt, raw) {
      const parsedOptions = parseGenerateOptions(raw, {
        drafter: info.drafter,
        vocabSize: config.vocabSize,
        eosTokenIds: config.eosTokenIds,
      });
      const facts = { vocabSize: config.vocabSize, contextLength };
      const parsed = parsePrompt(prompt, facts);
      // What only the tokenizer or time can tell fails the run, as it does across a worker.
      if (disposed) return failedRun(disposedError());
      let promptTokens: number[];
      try {
        promptTokens = parsePrompt(typeof parsed === 'string' ? tokenizer.encode(parsed) : parsed, facts) as number[];
      } catch (error) {
        return failedRun(error);
      }
      requestCount += 1;
      const request = createRequest(
        {
          ...parsedOptions,
          id: `request-${requestCount}`,
          promptTokens,
          limit: Math.min(contextLength, promptTokens.length + parsedOptions.maxNewTokens),
        },
        {
          tokenizer,
          metrics,
          onFinish: (result) => {
            if (options.logMetrics) console.log(finishLine(result.meta_info));
          },
        },
      );
      requests.add(request);
      void queued(async () => {
        try {
          checkAlive();
          await request.start(decoder);
        } catch (error) {
          request.fail(error);
        } finally {
          requests.delete(request);
        }
      });
      return request.run;
    },
    chat: createChat({
      modelName: options.modelName,
      info,
      generate: (prompt, generateOptions) => engine.generate(prompt, generateOptions),
      async applyTemplate(messages) {
        checkAlive();
        const text = renderChat(chatTemplate, messages);
        return { text, tokens: tokenizer.encodeRendered(text) };
      },
    }),
    async metrics() {
      if (disposed) throw disposedError();
      return prometheusText(metrics);
    },
    async measureCosts(raw) {
      const { sampleCount } = parseCostOptions(raw);
      return queued(async () => {
        checkAlive();
        try {
          decoder.fed = nothingFed;
          return await measureCosts(gpu, decoder.plan, decoder.sequences, { sampleCount });
        } catch (error) {
          throw disposed ? disposedError() : error;
        }
      });
    },
    async dispose() {
      if (disposed) return;
      disposed = true;
      for (const request of requests) request.fail(disposedError());
      closeGpu(gpu);
      await turn;
    },
  };
  return engine;
}

const disposedError = () =>
  new EngineDisposedError('The engine was disposed. Create a new one with createEngine() to go on.');

function failedRun(error: unknown): GenerateRun {
  const { run, fail } = createRun();
  fail(error);
  return run;
}

function contextLengthOf(files: readonly OpenedModel[], asked: number | null): number {
  const longest = Math.min(...files.map(({ config }) => config.maxContextLength));
  if (asked === null) return Math.min(longest, defaultContextLimit);
  if (asked <= longest) return asked;
  throw new InvalidOptionError(
    `Expected \`contextLength\` to be at most ${longest} (max_position_embeddings of ${files.map(({ url }) => url).join(', ')}), ` +
      `got ${asked}. Lower it.`,
  );
}

function checkStopTokens({ url, config }: OpenedModel): void {
  if (config.eosTokenIds.length <= MAX_STOP_TOKENS) return;
  throw new UnsupportedModelError(
    `Expected at most ${MAX_STOP_TOKENS} eos_token_id entries in ${url}, got ${config.eosTokenIds.length}.`,
  );
}

function modelInfo({ url, config }: OpenedModel, weights: Weights, forward: Forward): ModelInfo {
  return {
    url,
    architecture: config.architecture,
    parameterCount: weights.parameterCount,
    layerCount: config.layerCount,
    hiddenSize: config.hiddenSize,
    vocabSize: config.vocabSize,
    eosTokenIds: [...config.eosTokenIds],
    maxContextLength: config.maxContextLength,
    weightBytes: weights.sizeBytes,
    dispatchesPerPass: dispatchesPerPass(forward),
    dispatchesPerLayer: forward.dispatchesPerLayer,
  };
}
