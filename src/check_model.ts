/** What a pair needs and whether this device has it, from its small files and the heads of the large ones. */
import type { CheckedModel, DeviceLimits, GpuMemory, ModelCheck, ModelProblem } from './check_types.ts';
import { checkStopTokens, commonFormat, contextLengthOf, createParts, longestContext } from './engine_parts.ts';
import { DeviceLimitError, isForetokenError } from './errors.ts';
import { type CountingGpu, createCountingGpu } from './gpu/counting.ts';
import { adapterInfo, bindingLimit, checkBindingSize } from './gpu/device.ts';
import type { WeightFormat } from './kernels/packed.ts';
import { allOrAbort } from './model/abort.ts';
import { openModel, type Role } from './model/load.ts';
import type { OpenedModel } from './model/opened_model.ts';
import type { ModelSource } from './model/source.ts';
import { parameterCountOf } from './model/tensors.ts';
import { checkSameVocabulary } from './model/vocabulary.ts';
import { allocateWeights, matricesOf, type Weights, weightFormats } from './model/weights.ts';
import type { ParsedEngineOptions } from './options.ts';
import type { Sampler } from './speculative/sampler.ts';
import type { EngineInfo, TokenizerLike } from './types.ts';

export type CheckOptions = Pick<
  ParsedEngineOptions,
  'contextLength' | 'dtype' | 'ngram' | 'headTokens' | 'roundsInFlight' | 'maxRunningRequests' | 'signal'
> & { tokenizer?: TokenizerLike };

/** Of many buffers that are too large, so many are named. */
const MAX_LIMIT_PROBLEMS = 3;

/**
 * @param adapter or the error that says why there is none
 * @throws what opening a model throws: files that cannot be fetched, are malformed, or are of no supported model
 */
export async function checkPair(
  adapter: GPUAdapter | Error,
  targetSource: ModelSource,
  draftSource: ModelSource | null,
  options: CheckOptions,
): Promise<ModelCheck> {
  const { signal, tokenizer } = options;
  const opened = await allOrAbort(
    signal ?? undefined,
    [targetSource, draftSource].map((source, i) => async (linked: AbortSignal) => {
      if (source === null) return null;
      const files = new Map<string, number>();
      const role: Role = i === 0 ? 'target' : 'draft';
      const like = role === 'target' && tokenizer ? { tokenizer } : {};
      const model = await openModel(recordingSource(source, files), role, { signal: linked, ...like });
      for (const { name, sizeBytes } of await model.weightFiles(linked)) files.set(name, sizeBytes);
      return { model, files };
    }),
  );
  const [target, draft] = opened as [Opened, Opened | null];
  const models = draft === null ? [target.model] : [target.model, draft.model];

  const problems: ModelProblem[] = [];
  /** Notes the typed error that `work` throws. */
  const holds = (work: () => void): boolean => {
    try {
      work();
      return true;
    } catch (error) {
      if (!isForetokenError(error)) throw error;
      problems.push({ code: error.name, message: error.message });
      return false;
    }
  };
  if (adapter instanceof Error) {
    holds(() => {
      throw adapter;
    });
  }
  const sameVocabulary = draft && holds(() => checkSameVocabulary(target.model, draft.model));
  let contextLength = longestContext(models);
  holds(() => {
    contextLength = contextLengthOf(models, options.contextLength);
  });
  holds(() => checkStopTokens(target.model));

  const gpu = createCountingGpu();
  const partBytes = adapter instanceof Error ? Infinity : bindingLimit(adapter.limits);
  const { gpuBytes, format } = await countMemory(gpu, models, contextLength, { ...options, partBytes });
  const largest = Math.max(...gpu.made.map(({ sizeBytes }) => sizeBytes));
  if (!(adapter instanceof Error)) {
    const largestFirst = gpu.made.toSorted((a, b) => b.sizeBytes - a.sizeBytes);
    for (const { label, sizeBytes } of largestFirst.slice(0, MAX_LIMIT_PROBLEMS)) {
      holds(() => checkBindingSize(adapter.limits, `${label} (${format})`, sizeBytes));
    }
    holds(() => checkStorageBuffers(adapter.limits, gpu.storageBuffers));
  }
  const files = [...target.files.values(), ...(draft?.files.values() ?? [])];
  return {
    fits: problems.length === 0,
    problems,
    target: checkedModel(target),
    draft: draft && checkedModel(draft),
    sameVocabulary,
    contextLength,
    dtype: format,
    downloadBytes: files.reduce((sum, bytes) => sum + bytes, 0),
    gpuBytes,
    needs: {
      features: [],
      limits: {
        maxBufferSize: largest,
        maxStorageBufferBindingSize: largest,
        maxStorageBuffersPerShaderStage: gpu.storageBuffers,
      },
    },
    device:
      adapter instanceof Error
        ? null
        : { adapter: adapterInfo(adapter), features: [...adapter.features].sort(), limits: limitsOf(adapter.limits) },
  };
}

type Opened = { model: OpenedModel; files: ReadonlyMap<string, number> };

/** Counts the bytes of each file that is read. */
function recordingSource(source: ModelSource, files: Map<string, number>): ModelSource {
  return {
    ...source,
    async open(file, options) {
      const stream = await source.open(file, options);
      if (stream === null) return null;
      async function* counted(chunks: AsyncGenerator<Uint8Array, void, void>) {
        for await (const chunk of chunks) {
          files.set(file, (files.get(file) ?? 0) + chunk.length);
          yield chunk;
        }
      }
      return { ...stream, chunks: counted(stream.chunks) };
    },
  };
}

/** Allocates everything that an engine would, on a device that only counts. */
async function countMemory(
  gpu: CountingGpu,
  models: readonly OpenedModel[],
  contextLength: number,
  { dtype, partBytes, ...options }: CheckOptions & { partBytes: number },
): Promise<{ gpuBytes: GpuMemory; format: EngineInfo['dtype'] }> {
  const weights: Weights[] = models.map((model, i) =>
    allocateWeights(
      gpu,
      `the ${i === 0 ? 'target' : 'draft'} ${model.url}:`,
      model.config,
      weightFormats(model, dtype),
      partBytes,
    ),
  );
  const parts = await createParts(gpu, models, weights, {
    ...options,
    contextLength,
    paddedRows: false,
    kernelKind: 'workgroup',
  });
  const sum = (buffers: readonly { size: number }[]) => buffers.reduce((total, { size }) => total + size, 0);
  const { targetSampler, draftSampler } = parts.plan;
  const samplers = [targetSampler, draftSampler].filter((sampler): sampler is Sampler => sampler !== null);
  const memory = {
    weights: weights.reduce((total, { sizeBytes }) => total + sizeBytes, 0),
    keysAndValues: sum(parts.forwards.flatMap(({ kvCache }) => [...kvCache.keys, ...kvCache.values])),
    logits: sum([
      ...parts.forwards.map(({ logits }) => logits),
      ...samplers.flatMap(({ warped, distributions, candidates, sampled }) => [
        warped,
        distributions,
        candidates,
        sampled,
      ]),
      parts.sequences.adjustments,
    ]),
  };
  const total = gpu.bytes;
  const other = total - memory.weights - memory.keysAndValues - memory.logits;
  return { gpuBytes: { ...memory, other, total }, format: dtype ?? commonFormat(weights.flatMap(matricesOf)) };
}

function checkedModel({ model, files }: Opened): CheckedModel {
  const { url, config, chatTemplate } = model;
  const weightBytes = (dtype: WeightFormat) =>
    allocateWeights(createCountingGpu(), url, config, weightFormats(model, dtype)).sizeBytes;
  return {
    url,
    architecture: config.architecture,
    parameterCount: parameterCountOf(config),
    layerCount: config.layerCount,
    hiddenSize: config.hiddenSize,
    vocabSize: config.vocabSize,
    maxContextLength: config.maxContextLength,
    hasChatTemplate: chatTemplate.source !== null,
    files: [...files].map(([name, sizeBytes]) => ({ name, sizeBytes })),
    weightBytes: { f16: weightBytes('f16'), q8: weightBytes('q8'), q4: weightBytes('q4') },
  };
}

function limitsOf(limits: DeviceLimits): DeviceLimits {
  const { maxBufferSize, maxStorageBufferBindingSize, maxStorageBuffersPerShaderStage } = limits;
  return { maxBufferSize, maxStorageBufferBindingSize, maxStorageBuffersPerShaderStage };
}

function checkStorageBuffers({ maxStorageBuffersPerShaderStage: limit }: DeviceLimits, needed: number): void {
  if (needed <= limit) return;
  throw new DeviceLimitError(
    `Expected the device to bind ${needed} storage buffers per shader stage, it allows ${limit}. Use another GPU or browser.`,
  );
}
