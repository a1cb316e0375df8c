/** The names of all options: which call knows them, what others call them, and what to say of an unknown one. */
import { InvalidOptionError } from './errors.ts';
import { type GivenOptions, inWords, isPlainObject, reading } from './option_values.ts';

export const ENGINE_KEYS = [
  'target',
  'draft',
  'contextLength',
  'dtype',
  'roundsInFlight',
  'maxRunningRequests',
  'cache',
  'modelName',
  'metricsPrefix',
  'logMetrics',
  'onProgress',
  'signal',
] as const;
export const GENERATE_KEYS = [
  'maxNewTokens',
  'minNewTokens',
  'draftLength',
  'temperature',
  'topK',
  'topP',
  'minP',
  'seed',
  'repetitionPenalty',
  'presencePenalty',
  'frequencyPenalty',
  'logitBias',
  'stop',
  'stopTokenIds',
  'ignoreEos',
  'logprobs',
  'topLogprobs',
  'priority',
  'signal',
] as const;

/** What `chat.completions.create` calls the options of `generate`: by their names in the OpenAI API, else in SGLang. */
export const CHAT_NAMES = {
  maxNewTokens: 'max_completion_tokens',
  minNewTokens: 'min_tokens',
  draftLength: 'draft_length',
  temperature: 'temperature',
  topK: 'top_k',
  topP: 'top_p',
  minP: 'min_p',
  seed: 'seed',
  repetitionPenalty: 'repetition_penalty',
  presencePenalty: 'presence_penalty',
  frequencyPenalty: 'frequency_penalty',
  logitBias: 'logit_bias',
  stop: 'stop',
  stopTokenIds: 'stop_token_ids',
  ignoreEos: 'ignore_eos',
  logprobs: 'logprobs',
  topLogprobs: 'top_logprobs',
  priority: 'priority',
} as const satisfies Record<Exclude<(typeof GENERATE_KEYS)[number], 'signal'>, string>;

/** What other libraries call our options, in lower case and without separators. */
const FOREIGN_NAMES = new Map<string, string>([
  ['maxtokens', 'maxNewTokens'],
  ['maxcompletiontokens', 'maxNewTokens'],
  ['maxlength', 'maxNewTokens'],
  ['maxoutputtokens', 'maxNewTokens'],
  ['npredict', 'maxNewTokens'],
  ['numpredict', 'maxNewTokens'],
  ['mintokens', 'minNewTokens'],
  ['minlength', 'minNewTokens'],
  ['k', 'draftLength'],
  ['numspeculativetokens', 'draftLength'],
  ['specnumsteps', 'draftLength'],
  ['speculativenumsteps', 'draftLength'],
  ['speculativenumdrafttokens', 'draftLength'],
  ['numassistanttokens', 'draftLength'],
  ['draftmax', 'draftLength'],
  ['temp', 'temperature'],
  ['dosample', 'temperature'],
  ['samplingseed', 'seed'],
  ['randomseed', 'seed'],
  ['repeatpenalty', 'repetitionPenalty'],
  ['presence', 'presencePenalty'],
  ['frequency', 'frequencyPenalty'],
  ['stopsequences', 'stop'],
  ['stopstrings', 'stop'],
  ['stopwords', 'stop'],
  ['antiprompt', 'stop'],
  ['stoptokens', 'stopTokenIds'],
  ['eostokenid', 'stopTokenIds'],
  ['returnlogprob', 'logprobs'],
  ['nprobs', 'topLogprobs'],
  ['toplogprobsnum', 'topLogprobs'],
  ['numlogprobs', 'topLogprobs'],
  ['draftvocabsize', 'headTokens'],
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

export function closestKey(key: string, allowed: readonly string[]): string | null {
  if (key.length > 64) return null;
  const word = squash(key);
  const sameWord = allowed.find((name) => squash(name) === word);
  if (sameWord !== undefined) return sameWord;
  const ours = FOREIGN_NAMES.get(word) ?? GENERATE_KEYS.find((name) => squash(name) === word) ?? '';
  const foreign = [ours, new Map(Object.entries(CHAT_NAMES)).get(ours) ?? ''].find((name) => allowed.includes(name));
  if (foreign !== undefined) return foreign;
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
  const otherKeys = foreignCall === 'generate()' ? GENERATE_KEYS : ENGINE_KEYS;
  const elsewhere = closestKey(key, otherKeys);
  if (elsewhere !== null) {
    return new InvalidOptionError(`${start} of ${call}: \`${elsewhere}\` is an option of ${foreignCall}.`);
  }
  return new InvalidOptionError(`${start} of ${call}. Expected one of ${allowed.map((k) => `\`${k}\``).join(', ')}.`);
}

/** Copies the known options out of what the caller passed, reading each once; a value of undefined means not given. */
export function readOptions(
  raw: unknown,
  call: 'createEngine()' | 'checkModel()' | 'generate()' | 'measureCosts()' | 'chat.completions.create()' | 'draft',
  allowed: readonly string[],
): GivenOptions {
  const what = `the options of ${call}`;
  return reading(what, () => {
    const loads = call === 'createEngine()' || call === 'checkModel()';
    if (!isPlainObject(raw)) {
      const example = loads
        ? "{ target: 'models/target/' }"
        : call === 'chat.completions.create()'
          ? "{ messages: [{ role: 'user', content: 'Hello' }] }"
          : '{ maxNewTokens: 100 }';
      throw new InvalidOptionError(
        `Expected ${what} to be a plain object, got ${inWords(raw)}. Pass options as ${example}.`,
      );
    }
    const options = new Map<string, unknown>();
    for (const key of Reflect.ownKeys(raw)) {
      if (typeof key !== 'string' || !allowed.includes(key)) {
        throw unknownOption(String(key), call, allowed, loads ? 'generate()' : 'createEngine()');
      }
      const value = reading(`\`${key}\``, () => raw[key]);
      if (value !== undefined) options.set(key, value);
    }
    return options;
  });
}
