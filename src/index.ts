/** The public names of `foretoken`, listed by hand; no code. */

export type { CacheCheck, CachedFile, ModelCache } from './cache_types.ts';
export type {
  Chat,
  ChatChoice,
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletionRequest,
  ChatCompletionStream,
  ChatContent,
  ChatLogprobs,
  ChatMessage,
  ChatPrompt,
  ChatRequestOptions,
  ChatTokenLogprob,
  ChatTopLogprob,
  ChatUsage,
  ChatUsageExtra,
} from './chat_types.ts';
export type { CheckedModel, DeviceLimits, GpuMemory, ModelCheck, ModelProblem } from './check_types.ts';
export { type ClientEngineOptions, checkModel, createEngine, type WorkerOption } from './client.ts';
export {
  DeviceError,
  DeviceLimitError,
  DeviceLostError,
  EngineDisposedError,
  type ForetokenErrorName,
  InvalidOptionError,
  isForetokenError,
  ModelFetchError,
  ModelFormatError,
  NonFiniteLogitsError,
  UnsupportedModelError,
  VocabularyMismatchError,
  WebGPUUnavailableError,
  WorkerError,
} from './errors.ts';
export type {
  BatchEvent,
  EngineEventName,
  EngineEvents,
  RequestEvent,
  RoundEvent,
  RoundEventRecord,
} from './event_types.ts';
export { modelCache } from './model_cache.ts';
export type {
  AdapterInfo,
  CostReport,
  Engine,
  EngineInfo,
  EngineOptions,
  FinishReason,
  GenerateOptions,
  GenerateResult,
  GenerateRun,
  LoadProgress,
  Logprob,
  MetaInfo,
  ModelDraft,
  ModelInfo,
  ModelLocation,
  NgramDraft,
  PassCosts,
  RequestStats,
  Round,
  RoundPhase,
  RoundStats,
  TokenLogprob,
} from './types.ts';
