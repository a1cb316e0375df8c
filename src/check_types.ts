/** Plain, cloneable data that `checkModel` gives: what a pair needs, before its weights are downloaded. */
import type { ForetokenErrorName } from './errors.ts';
import type { AdapterInfo, EngineInfo } from './types.ts';

/** Why `createEngine` would not load the pair here: the error that it would throw. */
export type ModelProblem = { code: ForetokenErrorName; message: string };

/** One model as its config, tokenizer and headers describe it. */
export type CheckedModel = {
  /** Of the folder or the GGUF file; the name alone where it is no URL. */
  url: string;
  architecture: string;
  parameterCount: number;
  layerCount: number;
  hiddenSize: number;
  /** Ids that it has rows for, padding included: they may differ within a pair. */
  vocabSize: number;
  /** The model's own maximum, in tokens. */
  maxContextLength: number;
  hasChatTemplate: boolean;
  /** What `createEngine` reads. */
  files: { name: string; sizeBytes: number }[];
  /** Bytes of weights on the GPU for each `dtype`. */
  weightBytes: Record<'f16' | 'q8' | 'q4', number>;
};

/** Bytes of GPU buffers that an engine with these options holds. */
export type GpuMemory = {
  weights: number;
  keysAndValues: number;
  /** Logits and what sampling makes of them. */
  logits: number;
  /** Activations, tables, parameters, staging. */
  other: number;
  total: number;
};

export type DeviceLimits = {
  maxBufferSize: number;
  maxStorageBufferBindingSize: number;
  maxStorageBuffersPerShaderStage: number;
};

export type ModelCheck = {
  /** No problems. WebGPU does not tell how much memory a GPU has: compare `gpuBytes` with what you know of it. */
  fits: boolean;
  problems: ModelProblem[];
  target: CheckedModel;
  draft: CheckedModel | null;
  /** Do all token ids mean the same text to both models? Null without a draft model. */
  sameVocabulary: boolean | null;
  contextLength: number;
  dtype: EngineInfo['dtype'];
  /** Bytes of all files of both models. What the cache has of them is not fetched again. */
  downloadBytes: number;
  gpuBytes: GpuMemory;
  /** Of a device. No kernel needs an optional feature. */
  needs: { features: string[]; limits: DeviceLimits };
  /** Null where there is no WebGPU; the first of `problems` says why. */
  device: { adapter: AdapterInfo; features: string[]; limits: DeviceLimits } | null;
};
