/** The options of `generate` about which tokens are chosen, where a request ends, and what is told of each token. */
import { InvalidOptionError } from './errors.ts';
import {
  booleanOption,
  expected,
  type GivenOptions,
  integerOption,
  inWords,
  isPlainObject,
  numberIn,
  numberOption,
  reading,
  tokenId,
} from './option_values.ts';

/** Lower temperatures count as 0: logits divided by less leave the range of 32-bit floats. */
export const MIN_TEMPERATURE = 1e-4;
/** Most stop tokens that the GPU compares with, end-of-sequence tokens included. */
export const MAX_STOP_TOKENS = 16;
export const MAX_STOP_STRINGS = 16;
export const MAX_TOP_LOGPROBS = 20;

/** How a request chooses its tokens, checked and complete. Defaults change nothing: greedy, no penalty, no bias. */
export type ParsedSampling = {
  /** 0: greedy. Never between 0 and MIN_TEMPERATURE. */
  temperature: number;
  /** 0: off. */
  topK: number;
  /** 1: off. */
  topP: number;
  /** 0: off. */
  minP: number;
  /** 0..2⁵³−1; null: none given, every call draws its own. */
  seed: number | null;
  /** 1: off. */
  repetitionPenalty: number;
  /** 0: off. */
  presencePenalty: number;
  /** 0: off. */
  frequencyPenalty: number;
  /** Token id (each once) and what is added to its logit. */
  logitBias: [token: number, bias: number][];
  /** Tokens before which no stop token is chosen. */
  minNewTokens: number;
};

/** Where a request ends, beside `maxNewTokens`. */
export type ParsedStops = {
  stop: string[];
  stopTokenIds: number[];
  ignoreEos: boolean;
  /** What the GPU stops at: the model's end-of-sequence tokens unless ignored, and stopTokenIds; each once. */
  stopTokens: number[];
};

export type ParsedLogprobs = { logprobs: boolean; topLogprobs: number };

export function samplingOptions(
  options: GivenOptions,
  { vocabSize, maxNewTokens }: { vocabSize: number; maxNewTokens: number },
): ParsedSampling {
  const off = 'Leave it out to turn it off.';
  const temperature = numberOption(options, 'temperature', { min: 0, max: 100 }) ?? 0;
  return {
    temperature: temperature < MIN_TEMPERATURE ? 0 : temperature,
    topK: integerOption(options, 'topK', { min: 0, max: 2 ** 32 - 1 }, off) ?? 0,
    topP: numberOption(options, 'topP', { min: 0, max: 1, excludesMin: true }, off) ?? 1,
    minP: numberOption(options, 'minP', { min: 0, max: 1 }, off) ?? 0,
    seed:
      integerOption(
        options,
        'seed',
        { min: 0, max: Number.MAX_SAFE_INTEGER },
        'Leave it out for a text that differs from call to call.',
      ) ?? null,
    repetitionPenalty: numberOption(options, 'repetitionPenalty', { min: 0.01, max: 100 }, off) ?? 1,
    presencePenalty: numberOption(options, 'presencePenalty', { min: -2, max: 2 }, off) ?? 0,
    frequencyPenalty: numberOption(options, 'frequencyPenalty', { min: -2, max: 2 }, off) ?? 0,
    logitBias: logitBiasOption(options, vocabSize),
    minNewTokens:
      integerOption(options, 'minNewTokens', { min: 0, max: maxNewTokens }, 'It is at most `maxNewTokens`.') ?? 0,
  };
}

/** Entries of a plain object or a Map, in their order. */
function logitBiasOption(options: GivenOptions, vocabSize: number): [token: number, bias: number][] {
  const raw = options.get('logitBias');
  if (raw === undefined) return [];
  const entries = reading('`logitBias`', (): [key: unknown, bias: unknown][] => {
    // By tag, not by class: a Map may come from another realm.
    if (Object.prototype.toString.call(raw) === '[object Map]') {
      return [...Map.prototype.entries.call(raw)];
    }
    if (!isPlainObject(raw)) {
      throw expected('logitBias', 'a plain object or a Map from token ids to numbers', raw, 'As in { 198: -100 }.');
    }
    return Reflect.ownKeys(raw).map((key) => {
      const isId = typeof key === 'string' && /^(0|[1-9]\d*)$/.test(key);
      return [isId ? Number(key) : key, raw[key]];
    });
  });
  return entries.map(([key, bias]) => {
    const token = tokenId('a key of logitBias', key, vocabSize);
    return [token, numberIn(`logitBias[${token}]`, bias, { min: -100, max: 100 })];
  });
}

/** A copy of a short array, its elements unchecked. */
function listOption(options: GivenOptions, key: string, what: string, longest: number): unknown[] | undefined {
  const raw = options.get(key);
  if (raw === undefined) return undefined;
  return reading(`\`${key}\``, () => {
    if (!Array.isArray(raw)) {
      throw expected(key, what, raw, ArrayBuffer.isView(raw) ? 'Convert it with Array.from(…).' : '');
    }
    if (raw.length > longest) throw expected(key, `${what}, at most ${longest}`, raw);
    return Array.from({ length: raw.length }, (_, i): unknown => raw[i]);
  });
}

export function stopOptions(
  options: GivenOptions,
  { vocabSize, eosTokenIds }: { vocabSize: number; eosTokenIds: readonly number[] },
): ParsedStops {
  const given = listOption(options, 'stopTokenIds', 'an array of token ids', MAX_STOP_TOKENS) ?? [];
  const stopTokenIds = [...new Set(given.map((id, i) => tokenId(`stopTokenIds[${i}]`, id, vocabSize)))];
  const ignoreEos = booleanOption(options, 'ignoreEos') ?? false;
  const stopTokens = [...new Set([...(ignoreEos ? [] : eosTokenIds), ...stopTokenIds])];
  if (stopTokens.length > MAX_STOP_TOKENS) {
    throw new InvalidOptionError(
      `Expected \`stopTokenIds\` to make at most ${MAX_STOP_TOKENS} stop tokens together with the model's end-of-sequence ` +
        `tokens (${eosTokenIds.join(', ')}), got ${stopTokens.length}. Pass fewer, or set \`ignoreEos\`.`,
    );
  }
  return { stop: stopStrings(options), stopTokenIds, ignoreEos, stopTokens };
}

function stopStrings(options: GivenOptions): string[] {
  const raw = options.get('stop');
  const given =
    typeof raw === 'string'
      ? [raw]
      : (listOption(options, 'stop', 'a string or an array of strings', MAX_STOP_STRINGS) ?? []);
  return given.map((text, i) => {
    const name = typeof raw === 'string' ? 'stop' : `stop[${i}]`;
    if (typeof text !== 'string' || text === '') {
      throw expected(name, 'a string, not empty', text, 'Leave it out to stop at no text.');
    }
    // Half of a surrogate pair: no text that a model emits contains it.
    if (/\p{Surrogate}/u.test(text)) throw expected(name, 'made of whole characters', text);
    return text;
  });
}

export function logprobsOptions(options: GivenOptions): ParsedLogprobs {
  const given = options.get('logprobs');
  const remedy = typeof given === 'number' ? 'Pass `logprobs: true`, and the number as `topLogprobs`.' : '';
  const logprobs = booleanOption(options, 'logprobs', remedy) ?? false;
  const topLogprobs = integerOption(options, 'topLogprobs', { min: 0, max: MAX_TOP_LOGPROBS }) ?? 0;
  if (topLogprobs > 0 && !logprobs) {
    throw new InvalidOptionError(
      `Expected \`logprobs\` to be true, as \`topLogprobs\` is ${topLogprobs}, got ${inWords(given)}. Set \`logprobs: true\`.`,
    );
  }
  return { logprobs, topLogprobs };
}
