import { checkStopTokens, commonFormat, contextLengthOf, createParts } from './engine_parts.ts';
import { closeGpu, type Gpu } from './gpu/device.ts';
import { findLateWaits } from './gpu/readback.ts';
import { gpuIdle } from './gpu/submit.ts';
import type { KernelKind } from './kernels/kernel_kind.ts';
import { allOrAbort } from './model/abort.ts';
import { dispatchesPerPass, type Forward } from './model/forward.ts';
import { openPair, type Role, readWeights } from './model/load.ts';
import type { OpenedModel } from './model/opened_model.ts';
import { findRowMismatches } from './model/self_test.ts';
import { findAttentionMismatches } from './model/self_test_attention.ts';
import type { ModelSource } from './model/source.ts';
import { fasterKernels, typicalMatrix } from './model/tune.ts';
import { matricesOf, uploadWeights, type Weights, weightFormats } from './model/weights.ts';
import type { ParsedEngineOptions } from './options.ts';
import { type Batch, createBatch, decode, forgetTokens } from './speculative/batch.ts';
import { measureCosts } from './speculative/costs.ts';
import { createDraftLengthPolicy } from './speculative/draft_length.ts';
import { createPace } from './speculative/pace.ts';
import { dispatchesPerRound } from './speculative/round.ts';
import { greedySampling } from './speculative/sampler.ts';
import type { CostReport, EngineInfo, ModelInfo, TokenizerLike } from './types.ts';

export type LoadEngineOptions = Pick<
  ParsedEngineOptions,
  'contextLength' | 'dtype' | 'ngram' | 'headTokens' | 'roundsInFlight' | 'maxRunningRequests' | 'onProgress' | 'signal'
> & {
  tokenizer?: TokenizerLike;
  /** Measured before, of these models on such an adapter; without them they are measured now. */
  costs?: CostReport | null;
  /** Known before; without it the faster one is found now. */
  kernelKind?: KernelKind | null;
};

/** Opened models: all but their weights, which can be read more than once. */
export type OpenedPair = { target: OpenedModel; draft: OpenedModel | null };

/** A pair on a device, ready to decode. */
export type LoadedPair = {
  gpu: Gpu;
  batch: Batch;
  /** Pages that its slots share. */
  pageCount: number;
  info: Omit<EngineInfo, 'loadTimeMs' | 'shared'>;
};

/** Opens a pair's files and loads it onto an opened device. On any failure, an abort included, everything made so far is freed. */
export async function openAndLoad(
  gpu: Gpu,
  targetSource: ModelSource,
  draftSource: ModelSource | null,
  options: LoadEngineOptions,
): Promise<{ models: OpenedPair; loaded: LoadedPair }> {
  return freedOnFailure(gpu, options, async () => {
    const models = await openPair(targetSource, draftSource, {
      ...(options.signal && { signal: options.signal }),
      ...(options.tokenizer && { tokenizer: options.tokenizer }),
    });
    return { models, loaded: await build(gpu, models, options) };
  });
}

/** Loads opened models onto a device, again if need be. */
export function loadOnto(gpu: Gpu, models: OpenedPair, options: LoadEngineOptions): Promise<LoadedPair> {
  return freedOnFailure(gpu, options, () => build(gpu, models, options));
}

async function freedOnFailure<T>(
  gpu: Gpu,
  { signal }: Pick<LoadEngineOptions, 'signal'>,
  work: () => Promise<T>,
): Promise<T> {
  try {
    const result = await work();
    signal?.throwIfAborted();
    return result;
  } catch (error) {
    const cause = signal?.aborted ? signal.reason : (gpu.failure ?? error);
    closeGpu(gpu);
    throw cause;
  }
}

/** Checks what can be told without the weights, uploads these, compiles, self-tests and warms up. */
async function build(gpu: Gpu, { target, draft }: OpenedPair, options: LoadEngineOptions): Promise<LoadedPair> {
  const files = draft === null ? [target] : [target, draft];
  const contextLength = contextLengthOf(files, options.contextLength);
  checkStopTokens(target);
  // Both at once. The first failure ends the other download.
  const weights: Weights[] = await allOrAbort(
    options.signal ?? undefined,
    files.map((model, i) => (signal: AbortSignal) => {
      const role: Role = i === 0 ? 'target' : 'draft';
      const rows = readWeights(model, role, { signal, ...(options.onProgress && { onProgress: options.onProgress }) });
      return uploadWeights(gpu, role, model, rows, weightFormats(model, options.dtype), { signal });
    }),
  );
  options.signal?.throwIfAborted();
  await findLateWaits(gpu);
  const matrices = weights.flatMap(matricesOf);
  const kernelKind = options.kernelKind ?? (await fasterKernels(gpu, typicalMatrix(weights[0] as Weights)));
  const configs = files.map(({ config }) => config);
  const mismatches = [
    ...(await findRowMismatches(gpu, matrices, kernelKind)),
    ...(await findAttentionMismatches(gpu, configs, kernelKind)),
  ];
  const paddedRows = mismatches.length > 0;
  options.signal?.throwIfAborted();
  const parts = await createParts(gpu, files, weights, { ...options, contextLength, paddedRows, kernelKind });
  const { forwards, sequences, plan, ring, pageCount } = parts;
  const batch = createBatch(gpu, plan, sequences, { ring, roundsInFlight: options.roundsInFlight });
  const drafter = draft !== null ? 'model' : options.ngram !== null ? 'ngram' : null;
  const costs = options.costs ?? (await measureCosts(gpu, plan, sequences, { sampleCount: 3, quick: true }));
  options.signal?.throwIfAborted();
  // One short request of each kind: drivers finish compiling at the first dispatch.
  for (const draftLength of drafter === null ? [0] : [0, 2]) await warmUp(batch, draftLength, options.signal);
  // After the warm-up, from which nothing is to be learnt.
  batch.policy = drafter && createDraftLengthPolicy(costs, drafter);
  batch.pace = createPace(costs);
  await gpuIdle(gpu);
  const models = files.map((model, i) => modelInfo(model, weights[i] as Weights, forwards[i] as Forward));
  const { maxBufferSize, maxStorageBufferBindingSize, maxComputeWorkgroupStorageSize } = gpu.device.limits;
  return {
    gpu,
    batch,
    pageCount,
    info: {
      adapter: gpu.adapter,
      features: gpu.features,
      limits: { maxBufferSize, maxStorageBufferBindingSize, maxComputeWorkgroupStorageSize },
      // Padded to one kernel, rows agree by construction.
      lossless: 'exact',
      paddedRows,
      kernelKind,
      target: models[0] as ModelInfo,
      draft: models[1] ?? null,
      drafter,
      contextLength,
      dtype: options.dtype ?? commonFormat(matrices),
      roundsInFlight: options.roundsInFlight,
      maxRunningRequests: options.maxRunningRequests,
      dispatchesPerRound: dispatchesPerRound(plan),
      costs: drafter && costs,
      gpuBytes: gpu.bytes,
    },
  };
}

/** Decodes two tokens, and forgets them. */
async function warmUp(batch: Batch, draftLength: number, signal: AbortSignal | null): Promise<void> {
  const request = {
    promptTokens: [0],
    emittedTokens: [],
    limit: Math.min(batch.sequences.contextLength, 3),
    stopTokens: [],
    sampling: greedySampling,
    logprobs: false,
    topLogprobs: 0,
    draftLength,
  };
  await decode(batch, 0, request, { onStart() {}, onRecord: () => null, isCancelled: () => signal?.aborted ?? false });
  forgetTokens(batch);
}

function modelInfo({ url, config }: OpenedModel, weights: Weights, forward: Forward): ModelInfo {
  return {
    url,
    architecture: config.architecture,
    parameterCount: weights.parameterCount,
    layerCount: config.layerCount,
    hiddenSize: config.hiddenSize,
    vocabSize: config.vocabSize,
    headTokens: forward.vocabSize,
    eosTokenIds: [...config.eosTokenIds],
    maxContextLength: config.maxContextLength,
    weightBytes: weights.sizeBytes,
    dispatchesPerPass: dispatchesPerPass(forward),
    dispatchesPerLayer: forward.dispatchesPerLayer,
  };
}
