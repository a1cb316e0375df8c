/** Plain, cloneable data of the public API. Units are in the names; definitions of the metrics: `docs/metrics.md`. */
import type { Chat } from './chat_types.ts';
import type { OnEngineEvent } from './event_types.ts';
import type { MetaInfo, RequestStats, RoundStats } from './stats_types.ts';

export type { FinishReason, MetaInfo, RequestStats, RoundPhase, RoundStats } from './stats_types.ts';

/** Bytes of one model fetched so far. `totalBytes` is null while a server has not told a length. */
export type LoadProgress = {
  model: 'target' | 'draft';
  loadedBytes: number;
  totalBytes: number | null;
};

/**
 * Prompt lookup decoding (Saxena 2023): drafts are what followed the last tokens where they occurred before. Pays where
 * output repeats input: summaries, edits, code. A round that finds nothing costs about a plain one, and counts as one.
 */
export type NgramDraft = {
  method: 'ngram';
  /** Fewest tokens that must match, 1 to 64. Default 2. */
  minMatch?: number;
  /** Most tokens that are compared, 1 to 64; of several matches the longest wins, then the most recent. Default 4. */
  maxMatch?: number;
};

/** A draft model, with what its location alone does not say. */
export type ModelDraft = {
  model: ModelLocation;
  /**
   * The draft proposes only the first so many ids of the vocabulary, in which byte-pair tokenizers list their tokens about
   * by frequency; its head computes no other logits (as FR-Spec does, arXiv:2502.14856). 1 and up; default, and anything
   * from the vocabulary's size up: all. The text stays the same, a draft step costs less, and fewer drafts are accepted.
   */
  headTokens?: number;
};

/**
 * Where a model is:
 * - a Hugging Face repository (`owner/name`, `owner/name@revision`), the URL of a folder in that layout (config.json,
 *   tokenizer.json, model.safetensors or its shards), or of a `.gguf` file; paths begin with `./` or `/`;
 * - a `.gguf` file as a `File` or `Blob`, or all files of a folder as an array or a `FileList`, as chosen or dropped;
 * - a handle of such a file or folder: of the origin's private file system (`navigator.storage.getDirectory()`), or picked.
 */
export type ModelLocation =
  | string
  | Blob
  | readonly File[]
  | FileList
  | FileSystemFileHandle
  | FileSystemDirectoryHandle;

/** Options of both `createEngine`s (the worker-backed one of `foretoken`, the direct one of `foretoken/engine`). */
export type EngineOptions = {
  /** The target model. */
  target: ModelLocation;
  /**
   * The draft model, given like the target, whose vocabulary it must share, or `{ model, headTokens }` to have it propose
   * frequent tokens only; `{ method: 'ngram' }` to look drafts up in the text so far, without a model; null (the default)
   * for plain decoding.
   */
  draft?: ModelLocation | ModelDraft | NgramDraft | null;
  /** Most tokens of prompt + output. Default: the smaller of both models' `max_position_embeddings`, at most 4,096. */
  contextLength?: number;
  /**
   * What the weights are stored as on the GPU, quantised while loading: `f16`, `q8` (9 bits a weight) or `q4` (4.5 bits;
   * embedding and head as `q8`). Default: `f16`; of a GGUF file each tensor in its own precision (docs/models.md). The
   * text is that of the quantised target, exactly, for every draft.
   */
  dtype?: 'f16' | 'q8' | 'q4';
  /** Rounds submitted ahead of the record that is awaited, 2 to 4. Default 2. */
  roundsInFlight?: number;
  /**
   * Requests that run at once, 1 to 16; more wait, by `priority`, then first come, first served. Default 4. They share rounds, each with the
   * tokens that it has alone: 8 rows of any of them share a load of the weights. A round has at most 32 rows, so beside
   * many others a request drafts less. They share the memory of one full context, too: one that reserves much of it
   * (prompt + `maxNewTokens`) lets fewer run beside it.
   */
  maxRunningRequests?: number;
  /**
   * Keep downloaded files on this device (docs/models.md): true, false or, by default, only those of other origins than
   * the page's own. Where there is no storage (Node, some private windows) nothing is kept.
   */
  cache?: boolean;
  /** Label `model_name` of the metrics. Default: the name of the target's repository, folder or file. */
  modelName?: string;
  /** Prefix of the metric names. Default `foretoken:`; `sglang:` lets existing SGLang dashboards work unchanged. */
  metricsPrefix?: string;
  /** Print one `Finish: …` line with its `meta_info` to the console for each request. Default false. */
  logMetrics?: boolean;
  /** Called while loading, with the bytes of each model. */
  onProgress?: (progress: LoadProgress) => void;
  /** Aborts loading: `createEngine` rejects with the signal's reason and frees what it had made. */
  signal?: AbortSignal;
};

/**
 * Options of one `generate` call. Each token is chosen from the target's logits in this order: repetition penalty,
 * presence and frequency penalty, bias, temperature, `topK`, `topP`, `minP`. Tokens that tie with the last one kept by
 * a filter are kept too. Draft and target are treated alike, so speculation changes no distribution.
 */
export type GenerateOptions = {
  /** Most tokens to emit, 1 and up. Default 256. Generation also ends where the context is full. */
  maxNewTokens?: number;
  /**
   * Tokens before which no end-of-sequence token and none of `stopTokenIds` is chosen, 0 to `maxNewTokens`. Default 0.
   * `stop` strings end a request at any time.
   */
  minNewTokens?: number;
  /**
   * Draft tokens per round (k), 0 to 7; 0 decodes plainly. `'auto'` (the default) chooses k round by round, 0 included, for
   * the most tokens per second: from what passes cost on this device and from the acceptance so far.
   */
  draftLength?: number | 'auto';
  /** Divides the logits, 0 to 100; 0 (the default, and anything below 0.0001) takes the most likely token (greedy). */
  temperature?: number;
  /** Samples among the k most likely tokens (Fan et al. 2018); 0 (the default) for all. */
  topK?: number;
  /** Samples among the most likely tokens that together hold this probability (nucleus, Holtzman et al. 2020); above 0, to 1 (the default) for all. */
  topP?: number;
  /** Samples among the tokens of at least this share of the most likely one's probability (Nguyen et al. 2024); 0 (the default) for all, to 1. */
  minP?: number;
  /**
   * 0 to 2⁵³ − 1. The same seed, prompt and options give the same text, whatever the draft (Gumbel coupling,
   * arXiv:2408.07978). Default: none; every call draws anew, and a few more drafts are accepted (Leviathan et al. 2023).
   */
  seed?: number;
  /** Divides positive and multiplies negative logits of tokens in prompt or output (CTRL, Keskar et al. 2019); 0.01 to 100, 1 (the default) for off. */
  repetitionPenalty?: number;
  /** Subtracted from the logit of each token that is in the output, −2 to 2. Default 0. As in the OpenAI API. */
  presencePenalty?: number;
  /** Subtracted from a token's logit once for each time it is in the output, −2 to 2. Default 0. As in the OpenAI API. */
  frequencyPenalty?: number;
  /** Added to logits, −100 to 100 by token id. Default none. As in the OpenAI API. */
  logitBias?: Readonly<Record<number, number>> | ReadonlyMap<number, number>;
  /**
   * Ends the request as soon as the text contains this string, or one of up to 16; it is not in the text. The one
   * that is complete first counts, of those complete at the same character the longest. Text that may be the beginning
   * of one is held back. Default none.
   */
  stop?: string | readonly string[];
  /** Tokens that end the request as an end-of-sequence token does: counted, not in the text. At most 16, those included. Default none. */
  stopTokenIds?: readonly number[];
  /** Does not end at the model's end-of-sequence tokens. Default false. */
  ignoreEos?: boolean;
  /** Gives the log-probability of each emitted token. Default false. */
  logprobs?: boolean;
  /** Gives this many of the most likely tokens beside each emitted one, 0 (the default) to 20. Needs `logprobs`. */
  topLogprobs?: number;
  /**
   * Of requests that wait, those of a higher priority start first, of equals those that came first. An integer of either
   * sign, at most 1,000,000 from 0 (the default). It changes nothing for a request that has started.
   */
  priority?: number;
  /** Aborts the request: the run ends with what it has, `finish_reason` `abort`. */
  signal?: AbortSignal;
};

/** Natural logarithm of a probability under the model itself: before penalties, bias, temperature and filters. */
export type Logprob = {
  token: number;
  logprob: number;
  /** The token's own text as it stands inside a longer one; half a character shows as U+FFFD. Special tokens have theirs too. */
  text: string;
  /** Its UTF-8 bytes; null where a tokenizer of the caller's does not tell (half a character). */
  bytes: number[] | null;
};

/** An emitted token, and the `topLogprobs` most likely ones in its place, descending; the emitted one need not be among them. */
export type TokenLogprob = Logprob & { top: Logprob[] };

/** What one round committed. */
export type Round = {
  /** Text made visible by this round. Never splits a UTF-8 sequence; special tokens are not in it. */
  text: string;
  /** Token ids of this round; the one that ended the request, if any, is the last. The first `acceptedCount` were drafted. */
  tokens: number[];
  /** `pieces[i]` is the text made visible by `tokens[i]` (empty while a character is incomplete, or may belong to a stop string); they concatenate to `text`. */
  pieces: string[];
  /** One for each of `tokens`; present when the option `logprobs` asked for it. */
  logprobs?: TokenLogprob[];
  stats: RoundStats;
};

/** All that a finished (or aborted) request produced. */
export type GenerateResult = {
  /** The text of all rounds. After an abort it may have a little more: what was held back for the next token to decide. */
  text: string;
  /** Emitted ids, the one that ended the request included. */
  tokens: number[];
  /** One for each of `tokens`; present when the option `logprobs` asked for it. */
  logprobs?: TokenLogprob[];
  stats: RequestStats;
  meta_info: MetaInfo;
};

/**
 * A running request. It starts at once and never waits for its consumer: rounds queue until they are pulled, and
 * `await run.result` alone completes. Iterate at most once. Leaving the loop early (`break`) aborts the request.
 */
export type GenerateRun = AsyncIterable<Round> & {
  /** Resolves also when aborted (`finish_reason` `abort`); rejects with a typed error. Ignoring it is no unhandled rejection. */
  readonly result: Promise<GenerateResult>;
};

/** A loaded model, as far as a page wants to know. */
export type ModelInfo = {
  /** Of the folder or the GGUF file; the name alone where it is no URL. */
  url: string;
  architecture: string;
  parameterCount: number;
  layerCount: number;
  hiddenSize: number;
  vocabSize: number;
  /** Ids that its head computes logits for, the first of the vocabulary: all, but for a draft with the option `headTokens`. */
  headTokens: number;
  /** Generation ends at any of these, unless `ignoreEos`. */
  eosTokenIds: number[];
  /** The model's own maximum, in tokens. */
  maxContextLength: number;
  /** Bytes of weights on the GPU. */
  weightBytes: number;
  /** Compute dispatches of one forward pass over up to 8 rows. */
  dispatchesPerPass: number;
  /** Compute dispatches of one layer of such a pass. */
  dispatchesPerLayer: number;
};

export type AdapterInfo = { vendor: string; architecture: string; device: string; description: string };

/** Facts about a loaded engine; fixed after `createEngine`. */
export type EngineInfo = {
  adapter: AdapterInfo;
  /** Optional WebGPU features in use. */
  features: string[];
  /** The device limits that bound models, in bytes or counts. */
  limits: { maxBufferSize: number; maxStorageBufferBindingSize: number; maxComputeWorkgroupStorageSize: number };
  /**
   * `exact`: on this device a row has the same bits in every pass, so the output equals plain decoding, token for token.
   * `near-ties`: it has not, and tokens may differ where two logits are closer than rounding.
   */
  lossless: 'exact' | 'near-ties';
  /** True when the few-rows kernels did not agree and one padded kernel serves every pass (slower, still exact). */
  paddedRows: boolean;
  /**
   * Which kernels serve here, as timed at load: with the lanes of a workgroup together, which GPUs like, or with each lane by
   * itself, for adapters that run on a CPU. Both give the same bits.
   */
  kernelKind: 'workgroup' | 'lane';
  target: ModelInfo;
  draft: ModelInfo | null;
  /** What proposes drafts; null for plain decoding. */
  drafter: 'model' | 'ngram' | null;
  contextLength: number;
  /** As given or, without the option, that of all matrices; `mixed` where a GGUF file has several. */
  dtype: 'f16' | 'q8' | 'q4' | 'mixed';
  roundsInFlight: number;
  maxRunningRequests: number;
  /** [k] = compute dispatches of one round of k drafts: draft steps, target pass, accept. Only [0] without a draft model. */
  dispatchesPerRound: number[];
  /** What passes cost, measured in short while loading: what `draftLength: 'auto'` begins with. Null where nothing drafts. */
  costs: CostReport | null;
  loadTimeMs: number;
  /**
   * True where other tabs may share this engine. False without the option `share`, and where the browser has no WebGPU in
   * shared workers: each tab has an engine of its own then.
   */
  shared: boolean;
  /** All GPU buffers of the engine, in bytes. */
  gpuBytes: number;
};

/** What passes cost where a sequence has so many tokens. */
export type PassCosts = {
  /** Committed tokens (prompt and output so far) of the sequence. Attention makes all passes dearer with them. */
  committedLength: number;
  /** Median time of one target pass over a single row, in ms. */
  targetStepMs: number;
  /** Median time of one draft step (single row), in ms; null without a draft. */
  draftStepMs: number | null;
  /** Draft step / target step. */
  c: number | null;
  /** v[M−1] = target pass over M rows / over 1 row, M = 1..8. */
  v: number[];
};

/** Cost of speculation on this device (FIELD: S = E / (k·c + v(k+1)), Leviathan et al. 2023 with a measured v). */
export type CostReport = PassCosts & {
  /** Median distance of the samples from their median, relative to it, per M. */
  vSpread: number[];
  /** Samples per figure; at load fewer of what takes long. */
  sampleCount: number;
  /**
   * The same at a longer context, 1,024 tokens or what fits: times in between, and beyond, lie on a line through both.
   * Null where the context has no room for one that is four times as long.
   */
  longContext: PassCosts | null;
};

/** Loads models, runs requests, reports. Made by `createEngine`. */
export type Engine = {
  readonly info: EngineInfo;
  /** Starts a request. A string is tokenised (with the model's BOS rule); token ids are taken as they are. */
  generate(prompt: string | readonly number[], options?: GenerateOptions): GenerateRun;
  /** Conversations, through the model's chat template: `chat.completions.create` as in the `openai` package. */
  readonly chat: Chat;
  /** Tells of rounds, of requests that end, and of each window of 40 decode batches. Costs nothing while nobody listens. */
  on: OnEngineEvent;
  /** Prometheus text exposition of the counters and gauges. */
  metrics(): Promise<string>;
  /** Measures c and v(1..8) on this device; waits until nothing else runs. Takes about a second on a GPU. */
  measureCosts(options?: { sampleCount?: number }): Promise<CostReport>;
  /** Ends running requests with `EngineDisposedError`, frees the GPU. Calling it again is harmless. */
  dispose(): Promise<void>;
};

/** The part of a tokenizer that `foretoken/engine` needs; tokenizer objects of transformers.js fit. */
export type TokenizerLike = {
  /** A chat template writes its special tokens itself: its text comes with `add_special_tokens: false`. */
  encode(text: string, options?: { add_special_tokens: boolean }): number[];
  decode(tokens: number[], options: { skip_special_tokens: boolean; clean_up_tokenization_spaces: boolean }): string;
};
