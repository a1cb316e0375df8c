/**
 * Checks what callers pass in, once, at the door: afterwards every option has its type, its range and its default.
 * Nothing here trusts its input: it may be of any type, and reading it may throw.
 */

import { draftOption, type ParsedDraft } from './draft_options.ts';
import { InvalidOptionError } from './errors.ts';
import { LOCATION_WORDS, locationOption, modelNameOf, type ParsedLocation } from './model_options.ts';
import { ENGINE_KEYS, GENERATE_KEYS, readOptions } from './option_names.ts';
import {
  booleanOption,
  expected,
  type GivenOptions,
  integerOption,
  reading,
  textOption,
  tokenId,
} from './option_values.ts';
import {
  logprobsOptions,
  type ParsedLogprobs,
  type ParsedSampling,
  type ParsedStops,
  samplingOptions,
  stopOptions,
} from './sampling_options.ts';
import type { EngineInfo, GenerateOptions, LoadProgress } from './types.ts';

/** Longest draft: one pass verifies at most 8 rows, the drafts and the token before them. */
export const MAX_DRAFT_LENGTH = 7;
/** Of either sign. */
export const MAX_PRIORITY = 1_000_000;
export const DEFAULT_MAX_NEW_TOKENS = 256;
/** Odd, so that the median is one of the samples. */
export const DEFAULT_SAMPLE_COUNT = 7;
export const DEFAULT_METRICS_PREFIX = 'foretoken:';

/** EngineOptions, checked and complete. */
export type ParsedEngineOptions = ParsedDraft & {
  target: ParsedLocation;
  /** null: as the models and the default limit allow. */
  contextLength: number | null;
  /** null: as the files have it. */
  dtype: 'f16' | 'q8' | 'q4' | null;
  roundsInFlight: number;
  maxRunningRequests: number;
  /** null: files of other origins only. */
  cache: boolean | null;
  modelName: string;
  metricsPrefix: string;
  logMetrics: boolean;
  onProgress: ((progress: LoadProgress) => void) | null;
  signal: AbortSignal | null;
  /** Values of the extra keys that the caller allowed and the user gave; unchecked. */
  extras: Record<string, unknown>;
};

/** GenerateOptions, checked and complete. */
export type ParsedGenerateOptions = ParsedStops &
  ParsedLogprobs & {
    maxNewTokens: number;
    draftLength: number | 'auto';
    sampling: ParsedSampling;
    priority: number;
    signal: AbortSignal | null;
  };

/** What the options of `generate` are checked against. */
export type GenerateFacts = { drafter: EngineInfo['drafter']; vocabSize: number; eosTokenIds: readonly number[] };

export function signalOption(options: GivenOptions): AbortSignal | null {
  const value = options.get('signal');
  if (value === undefined) return null;
  // By shape, not by class: a signal may come from an iframe or a polyfill.
  const isSignal = reading('`signal`', () => {
    const signal = value as Partial<AbortSignal> | null;
    return (
      typeof signal === 'object' &&
      signal !== null &&
      typeof signal.aborted === 'boolean' &&
      typeof signal.addEventListener === 'function' &&
      typeof signal.removeEventListener === 'function'
    );
  });
  if (!isSignal) throw expected('signal', 'an AbortSignal', value, 'Pass the `signal` of an AbortController.');
  return value as AbortSignal;
}

const DTYPES = ['f16', 'q8', 'q4'] as const;

function dtypeOption(options: GivenOptions): ParsedEngineOptions['dtype'] {
  const given = options.get('dtype');
  const dtype = DTYPES.find((name) => name === given);
  if (given === undefined || dtype !== undefined) return dtype ?? null;
  throw expected('dtype', "'f16', 'q8' or 'q4'", given, 'It is what the weights are stored as on the GPU.');
}

/**
 * The options of `createEngine` and `checkModel`. `extraKeys` are the keys that this caller knows beside them (`worker` on the client;
 * `gpu` and `tokenizer` in `foretoken/engine`); their values come back unchecked in `extras`.
 */
export function parseEngineOptions(
  raw: unknown,
  extraKeys: readonly string[] = [],
  call: 'createEngine()' | 'checkModel()' = 'createEngine()',
): ParsedEngineOptions {
  const options = readOptions(raw, call, [...ENGINE_KEYS, ...extraKeys]);
  const target = locationOption(options, 'target');
  if (target === undefined) throw expected('target', LOCATION_WORDS, undefined, 'Pass for example `new URL(…).href`.');
  const prefix = options.get('metricsPrefix') ?? DEFAULT_METRICS_PREFIX;
  if (options.get('metricsPrefix') === null || typeof prefix !== 'string' || !/^([a-z_:][\w:]*)?$/i.test(prefix)) {
    throw expected(
      'metricsPrefix',
      'the start of a Prometheus metric name (letters, digits, `_` and `:`, no digit first)',
      options.get('metricsPrefix'),
      "For example 'sglang:'.",
    );
  }
  const onProgress = options.get('onProgress') ?? null;
  if (options.get('onProgress') === null || (onProgress !== null && typeof onProgress !== 'function')) {
    throw expected('onProgress', 'a function', options.get('onProgress'), 'Leave it out to hear nothing.');
  }

  return {
    target,
    ...draftOption(options),
    contextLength: integerOption(options, 'contextLength', { min: 2 }, 'It holds the prompt and the output.') ?? null,
    dtype: dtypeOption(options),
    roundsInFlight: integerOption(options, 'roundsInFlight', { min: 2, max: 4 }) ?? 2,
    maxRunningRequests: integerOption(options, 'maxRunningRequests', { min: 1, max: 16 }) ?? 4,
    cache: booleanOption(options, 'cache') ?? null,
    modelName: textOption(options, 'modelName', 'a name, not empty') ?? modelNameOf(target),
    metricsPrefix: prefix,
    logMetrics: booleanOption(options, 'logMetrics') ?? false,
    onProgress: onProgress as ParsedEngineOptions['onProgress'],
    signal: signalOption(options),
    extras: Object.fromEntries([...options].filter(([key]) => extraKeys.includes(key))),
  };
}

/** The options of one `generate` call; undefined means none. */
export function parseGenerateOptions(raw: unknown, facts: GenerateFacts): ParsedGenerateOptions {
  const options = readOptions(raw === undefined ? {} : raw, 'generate()', GENERATE_KEYS);
  const draftLength =
    options.get('draftLength') === 'auto'
      ? 'auto'
      : (integerOption(options, 'draftLength', { min: 0, max: MAX_DRAFT_LENGTH }, "Or pass 'auto'.") ?? 'auto');
  if (draftLength !== 'auto' && draftLength > 0 && facts.drafter === null) {
    throw new InvalidOptionError(
      `Expected \`draftLength\` to be 0, as this engine drafts nothing, got ${draftLength}. ` +
        'Give `draft` to createEngine(), or leave `draftLength` out.',
    );
  }
  const maxNewTokens =
    integerOption(
      options,
      'maxNewTokens',
      { min: 1 },
      'To generate until the context is full, pass the context length.',
    ) ?? DEFAULT_MAX_NEW_TOKENS;
  return {
    maxNewTokens,
    draftLength: facts.drafter === null ? 0 : draftLength,
    sampling: samplingOptions(options, { vocabSize: facts.vocabSize, maxNewTokens }),
    ...stopOptions(options, facts),
    ...logprobsOptions(options),
    priority:
      integerOption(
        options,
        'priority',
        { min: -MAX_PRIORITY, max: MAX_PRIORITY },
        'Of requests that wait, those with a higher number start first.',
      ) ?? 0,
    signal: signalOption(options),
  };
}

/** The same options as a caller writes them, plain and cloneable: `parseGenerateOptions` gives them back unchanged. */
export function toGenerateOptions(parsed: ParsedGenerateOptions): Omit<GenerateOptions, 'signal'> {
  const { signal, stopTokens, sampling, ...options } = parsed;
  const { seed, logitBias, ...others } = sampling;
  return { ...options, ...others, logitBias: new Map(logitBias), ...(seed === null ? {} : { seed }) };
}

/** The options of `measureCosts`, filled in; undefined means none. */
export function parseCostOptions(raw: unknown): { sampleCount: number } {
  const options = readOptions(raw === undefined ? {} : raw, 'measureCosts()', ['sampleCount']);
  return {
    sampleCount: integerOption(options, 'sampleCount', { min: 1, max: 1000 }) ?? DEFAULT_SAMPLE_COUNT,
  };
}

/**
 * The prompt of one `generate` call: a string as it is, or a checked copy of token ids. Tokenise a string and pass the
 * ids through here again: only they can be too many, or none.
 */
export function parsePrompt(raw: unknown, facts: { vocabSize: number; contextLength: number }): string | number[] {
  if (typeof raw === 'string') return raw;
  const isArray = reading('`prompt`', () => Array.isArray(raw));
  if (!isArray) {
    const remedy = ArrayBuffer.isView(raw) ? 'Convert it with Array.from(…).' : 'Pass one of the two.';
    throw expected('prompt', 'a string or an array of token ids', raw, remedy);
  }
  return reading('`prompt`', () => {
    const tokens = raw as unknown[];
    const tokenCount = tokens.length;
    if (tokenCount === 0) {
      throw new InvalidOptionError(
        'Expected `prompt` to have at least 1 token, got 0. Pass some text, or the id of a start token.',
      );
    }
    if (tokenCount > facts.contextLength - 1) {
      throw new InvalidOptionError(
        `Expected \`prompt\` to have at most ${facts.contextLength - 1} tokens (a context of ${facts.contextLength}, ` +
          `less one token to generate), got ${tokenCount}. Shorten it, or raise \`contextLength\` of createEngine().`,
      );
    }
    const checked: number[] = [];
    for (let i = 0; i < tokenCount; i += 1) {
      checked.push(tokenId(`prompt[${i}]`, tokens[i], facts.vocabSize));
    }
    return checked;
  });
}
