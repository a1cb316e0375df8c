/**
 * Checks what callers pass in, once, at the door: afterwards every option has its type, its range and its default.
 * Nothing here trusts its input: it may be of any type, and reading it may throw.
 */
import { InvalidOptionError } from './errors.ts';
import type { LoadProgress } from './types.ts';

/** Longest draft: one pass verifies at most 8 rows, the drafts and the token before them. */
export const MAX_DRAFT_LENGTH = 7;
export const DEFAULT_DRAFT_LENGTH = 3;
export const DEFAULT_MAX_NEW_TOKENS = 256;
/** Odd, so that the median is one of the samples. */
export const DEFAULT_SAMPLE_COUNT = 7;
export const DEFAULT_METRICS_PREFIX = 'foretoken:';

/** EngineOptions, checked and complete. */
export type ParsedEngineOptions = {
  target: string;
  draft: string | null;
  /** null: as the models and the default limit allow. */
  contextLength: number | null;
  roundsInFlight: number;
  modelName: string;
  metricsPrefix: string;
  logMetrics: boolean;
  onProgress: ((progress: LoadProgress) => void) | null;
  signal: AbortSignal | null;
  /** Values of the extra keys that the caller allowed and the user gave; unchecked. */
  extras: Record<string, unknown>;
};

/** GenerateOptions, checked and complete. */
export type ParsedGenerateOptions = {
  maxNewTokens: number;
  draftLength: number;
  signal: AbortSignal | null;
};

const ENGINE_KEYS = [
  'target',
  'draft',
  'contextLength',
  'roundsInFlight',
  'modelName',
  'metricsPrefix',
  'logMetrics',
  'onProgress',
  'signal',
] as const;
const GENERATE_KEYS = ['maxNewTokens', 'draftLength', 'signal'] as const;

/** What other libraries call our options, in lower case and without separators. */
const FOREIGN_NAMES = new Map<string, string>([
  ['maxtokens', 'maxNewTokens'],
  ['maxcompletiontokens', 'maxNewTokens'],
  ['maxlength', 'maxNewTokens'],
  ['npredict', 'maxNewTokens'],
  ['k', 'draftLength'],
  ['numspeculativetokens', 'draftLength'],
  ['specnumsteps', 'draftLength'],
  ['speculativenumsteps', 'draftLength'],
  ['speculativenumdrafttokens', 'draftLength'],
  ['numassistanttokens', 'draftLength'],
  ['draftmax', 'draftLength'],
  ['draftmodel', 'draft'],
  ['assistantmodel', 'draft'],
  ['speculativemodel', 'draft'],
  ['speculativedraftmodelpath', 'draft'],
  ['model', 'target'],
  ['modelpath', 'target'],
  ['targetmodel', 'target'],
  ['modelurl', 'target'],
  ['nctx', 'contextLength'],
  ['maxmodellen', 'contextLength'],
  ['contextsize', 'contextLength'],
  ['contextwindowsize', 'contextLength'],
  ['servedmodelname', 'modelName'],
  ['abortsignal', 'signal'],
  ['progresscallback', 'onProgress'],
  ['initprogresscallback', 'onProgress'],
]);

/** Sampling parameters of other libraries: there is nothing to suggest for them but to leave them out. */
const SAMPLING_NAMES = new Set(['temperature', 'topk', 'topp', 'minp', 'seed', 'dosample', 'repetitionpenalty']);

/** A value in words, for messages. Never throws, whatever the value does when touched. */
function inWords(value: unknown): string {
  try {
    if (value === undefined) return 'nothing';
    if (value === null) return 'null';
    if (typeof value === 'string') {
      const shown = value.length > 60 ? `${value.slice(0, 60)}…` : value;
      return `the string ${JSON.stringify(shown)}`;
    }
    if (typeof value === 'bigint') return `the BigInt ${value}n`;
    if (Object.is(value, -0)) return '-0';
    if (typeof value === 'number' || typeof value === 'boolean') return String(value);
    if (typeof value === 'symbol') return 'a symbol';
    if (typeof value === 'function') return 'a function';
    if (Array.isArray(value)) return `an array of length ${value.length}`;
    const prototype: unknown = Object.getPrototypeOf(value);
    if (prototype === null || Object.getPrototypeOf(prototype) === null) return 'a plain object';
    const name: unknown = (prototype as { constructor?: { name?: unknown } }).constructor?.name;
    return typeof name === 'string' && name !== '' ? `an instance of ${name}` : 'an object';
  } catch {
    return 'an object that cannot be read';
  }
}

function expected(option: string, what: string, got: unknown, remedy = ''): InvalidOptionError {
  const end = remedy === '' ? '' : ` ${remedy}`;
  return new InvalidOptionError(`Expected \`${option}\` to be ${what}, got ${inWords(got)}.${end}`);
}

/** Runs code that touches the caller's objects; getters and proxies may throw anything. */
function reading<T>(what: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    if (error instanceof InvalidOptionError) throw error;
    let reason = '';
    try {
      reason = `: ${error instanceof Error ? error.message : String(error)}`;
    } catch {
      // An error that cannot be printed has nothing to add.
    }
    throw new InvalidOptionError(`Expected ${what} to be readable, but reading it threw${reason}. Pass plain values.`);
  }
}

/** Edits (insert, delete, replace, swap of neighbours) between two short strings. */
function editDistance(a: string, b: string): number {
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, j) => j)];
  for (let i = 1; i <= a.length; i += 1) {
    const row = [i];
    for (let j = 1; j <= b.length; j += 1) {
      let cost = Math.min(
        rows[i - 1]![j]! + 1,
        row[j - 1]! + 1,
        rows[i - 1]![j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1),
      );
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        cost = Math.min(cost, rows[i - 2]![j - 2]! + 1);
      }
      row.push(cost);
    }
    rows.push(row);
  }
  return rows[a.length]![b.length]!;
}

/** Lower case without separators: `max_new_tokens`, `MaxNewTokens` and `max-new-tokens` are one word. */
function squash(name: string): string {
  return name.replace(/[_\-\s]/g, '').toLowerCase();
}

function closestKey(key: string, allowed: readonly string[]): string | null {
  if (key.length > 64) return null;
  const word = squash(key);
  const sameWord = allowed.find((name) => squash(name) === word);
  if (sameWord !== undefined) return sameWord;
  const foreign = FOREIGN_NAMES.get(word);
  if (foreign !== undefined && allowed.includes(foreign)) return foreign;
  const ranked = allowed
    .map((name) => ({ name, distance: editDistance(word, squash(name)) }))
    // A third of the letters wrong is a typing error; more is another word.
    .filter(({ name, distance }) => distance <= Math.max(1, Math.floor(name.length / 3)))
    .sort((a, b) => a.distance - b.distance);
  return ranked[0]?.name ?? null;
}

function unknownOption(key: string, call: string, allowed: readonly string[], foreignCall: string): InvalidOptionError {
  const start = `Unknown option \`${key.length > 64 ? `${key.slice(0, 64)}…` : key}\``;
  const suggestion = closestKey(key, allowed);
  if (suggestion !== null) return new InvalidOptionError(`${start}; did you mean \`${suggestion}\`?`);
  if (SAMPLING_NAMES.has(squash(key))) {
    return new InvalidOptionError(`${start}: this version decodes greedily and has no sampling. Leave it out.`);
  }
  const otherKeys = call === 'createEngine()' ? GENERATE_KEYS : ENGINE_KEYS;
  const elsewhere = closestKey(key, otherKeys);
  if (elsewhere !== null) {
    return new InvalidOptionError(`${start} of ${call}: \`${elsewhere}\` is an option of ${foreignCall}.`);
  }
  return new InvalidOptionError(`${start} of ${call}. Expected one of ${allowed.map((k) => `\`${k}\``).join(', ')}.`);
}

/** Copies the known options out of what the caller passed, reading each once; a value of undefined means not given. */
function readOptions(
  raw: unknown,
  call: 'createEngine()' | 'generate()' | 'measureCosts()',
  allowed: readonly string[],
): Map<string, unknown> {
  const what = `the options of ${call}`;
  return reading(what, () => {
    const prototype: unknown = typeof raw === 'object' && raw !== null ? Object.getPrototypeOf(raw) : undefined;
    // Object.prototype of any realm: the one prototype without a prototype of its own.
    const isPlain =
      prototype === null ||
      (prototype !== undefined && !Array.isArray(raw) && Object.getPrototypeOf(prototype) === null);
    if (!isPlain) {
      const example = call === 'createEngine()' ? "{ target: 'models/target/' }" : '{ maxNewTokens: 100 }';
      throw new InvalidOptionError(
        `Expected ${what} to be a plain object, got ${inWords(raw)}. Pass options as ${example}.`,
      );
    }
    const options = new Map<string, unknown>();
    for (const key of Reflect.ownKeys(raw as object)) {
      if (typeof key !== 'string' || !allowed.includes(key)) {
        throw unknownOption(String(key), call, allowed, call === 'createEngine()' ? 'generate()' : 'createEngine()');
      }
      const value = reading(`\`${key}\``, () => (raw as Record<string, unknown>)[key]);
      if (value !== undefined) options.set(key, value);
    }
    return options;
  });
}

function integerOption(
  options: Map<string, unknown>,
  key: string,
  range: { min: number; max?: number },
  remedy = '',
): number | undefined {
  const value = options.get(key);
  if (value === undefined) return undefined;
  const { min, max = Number.MAX_SAFE_INTEGER } = range;
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < min || value > max) {
    const what = range.max === undefined ? `an integer from ${min} up` : `an integer from ${min} to ${max}`;
    throw expected(key, what, value, remedy);
  }
  return value + 0; // -0 becomes 0
}

function textOption(options: Map<string, unknown>, key: string, what: string, remedy = ''): string | undefined {
  const value = options.get(key);
  if (value === undefined) return undefined;
  if (typeof value !== 'string' || value.trim() === '') throw expected(key, what, value, remedy);
  return value;
}

function signalOption(options: Map<string, unknown>): AbortSignal | null {
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

/** Last path segment of a folder URL, for people to read. */
function nameOfUrl(url: string): string {
  const path = url.replace(/[?#].*$/s, '').replace(/^[a-z][a-z0-9+.-]*:\/\/[^/]*/i, '');
  const segment = path.split('/').findLast((part) => part !== '' && part !== '.' && part !== '..');
  if (segment === undefined) return url;
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}

/**
 * The options of `createEngine`. `extraKeys` are the keys that this caller knows beside them (`worker` on the client;
 * `gpu` and `tokenizer` in `foretoken/engine`); their values come back unchecked in `extras`.
 */
export function parseEngineOptions(raw: unknown, extraKeys: readonly string[] = []): ParsedEngineOptions {
  const options = readOptions(raw, 'createEngine()', [...ENGINE_KEYS, ...extraKeys]);
  const folder = 'Pass it as a string, as in `new URL(…).href`.';

  const target = textOption(options, 'target', 'the URL of a model folder', folder);
  if (target === undefined) throw expected('target', 'the URL of a model folder', undefined, folder);
  const draft =
    options.get('draft') === null
      ? null
      : (textOption(
          options,
          'draft',
          'the URL of a model folder, or null for plain decoding',
          typeof options.get('draft') === 'object' ? 'This version drafts with a model only.' : folder,
        ) ?? null);

  const prefix = options.get('metricsPrefix') ?? DEFAULT_METRICS_PREFIX;
  if (options.get('metricsPrefix') === null || typeof prefix !== 'string' || !/^([a-z_:][\w:]*)?$/i.test(prefix)) {
    throw expected(
      'metricsPrefix',
      'the start of a Prometheus metric name (letters, digits, `_` and `:`, no digit first)',
      options.get('metricsPrefix'),
      "For example 'sglang:'.",
    );
  }
  const logMetrics = options.get('logMetrics') ?? false;
  if (options.get('logMetrics') === null || typeof logMetrics !== 'boolean') {
    throw expected('logMetrics', 'true or false', options.get('logMetrics'));
  }
  const onProgress = options.get('onProgress') ?? null;
  if (options.get('onProgress') === null || (onProgress !== null && typeof onProgress !== 'function')) {
    throw expected('onProgress', 'a function', options.get('onProgress'), 'Leave it out to hear nothing.');
  }

  return {
    target,
    draft,
    contextLength: integerOption(options, 'contextLength', { min: 2 }, 'It holds the prompt and the output.') ?? null,
    roundsInFlight: integerOption(options, 'roundsInFlight', { min: 2, max: 4 }) ?? 2,
    modelName: textOption(options, 'modelName', 'a name, not empty') ?? nameOfUrl(target),
    metricsPrefix: prefix,
    logMetrics,
    onProgress: onProgress as ParsedEngineOptions['onProgress'],
    signal: signalOption(options),
    extras: Object.fromEntries([...options].filter(([key]) => extraKeys.includes(key))),
  };
}

/** The options of one `generate` call; undefined means none. */
export function parseGenerateOptions(raw: unknown, facts: { hasDraft: boolean }): ParsedGenerateOptions {
  const options = readOptions(raw === undefined ? {} : raw, 'generate()', GENERATE_KEYS);
  const draftLength = integerOption(options, 'draftLength', { min: 0, max: MAX_DRAFT_LENGTH });
  if (draftLength !== undefined && draftLength > 0 && !facts.hasDraft) {
    throw new InvalidOptionError(
      `Expected \`draftLength\` to be 0, as this engine has no draft model, got ${draftLength}. ` +
        'Give `draft` to createEngine(), or leave `draftLength` out.',
    );
  }
  return {
    maxNewTokens:
      integerOption(
        options,
        'maxNewTokens',
        { min: 1 },
        'To generate until the context is full, pass the context length.',
      ) ?? DEFAULT_MAX_NEW_TOKENS,
    draftLength: draftLength ?? (facts.hasDraft ? DEFAULT_DRAFT_LENGTH : 0),
    signal: signalOption(options),
  };
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
      const token = tokens[i];
      if (typeof token !== 'number' || !Number.isInteger(token) || token < 0 || token >= facts.vocabSize) {
        const remedy = 'Use the tokenizer of the target model.';
        throw expected(`prompt[${i}]`, `a token id from 0 to ${facts.vocabSize - 1}`, token, remedy);
      }
      checked.push(token + 0); // -0 becomes 0
    }
    return checked;
  });
}
