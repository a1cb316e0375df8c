/** Checks a request of `chat.completions.create` and says it in the words of `generate`, which checks the values. */
import type { PlainChatMessage } from './chat_types.ts';
import { InvalidOptionError } from './errors.ts';
import { CHAT_NAMES, closestKey, readOptions } from './option_names.ts';
import {
  booleanOption,
  expected,
  type GivenOptions,
  integerOption,
  inWords,
  isPlainObject,
  reading,
} from './option_values.ts';
import { signalOption } from './options.ts';
import type { GenerateOptions } from './types.ts';

export type ParsedChatRequest = {
  messages: PlainChatMessage[];
  /** Null: not given. */
  model: string | null;
  stream: boolean;
  includeUsage: boolean;
  /** Answers to make. */
  n: number;
  /** Of the types that the caller gave: `generate` checks them. */
  options: GenerateOptions;
  /** An error of `generate` in the names of this request. */
  translate(error: unknown): unknown;
};

const OWN_KEYS = ['messages', 'model', 'stream', 'stream_options', 'max_tokens', 'n', 'response_format', 'user'];
/** What the OpenAI API has beside them. */
const UNSUPPORTED_KEYS = [
  'tools',
  'tool_choice',
  'parallel_tool_calls',
  'functions',
  'function_call',
  'audio',
  'modalities',
  'prediction',
  'reasoning_effort',
  'verbosity',
  'web_search_options',
  'moderation',
  'store',
  'metadata',
  'service_tier',
  'safety_identifier',
  'prompt_cache_key',
  'prompt_cache_options',
  'prompt_cache_retention',
];

/** As in the OpenAI API. */
const MAX_CHOICES = 128;
/** OpenAI's own default; `generate` is greedy unless told otherwise. */
const DEFAULT_TEMPERATURE = 1;

export function parseChatRequest(raw: unknown, { contextLength }: { contextLength: number }): ParsedChatRequest {
  const allowed = [...OWN_KEYS, ...Object.values(CHAT_NAMES), ...UNSUPPORTED_KEYS];
  if (isPlainObject(raw) && Object.hasOwn(raw, 'signal')) {
    throw new InvalidOptionError(
      'Expected `signal` in the second argument of chat.completions.create(), got it in the request. ' +
        'Call create(request, { signal }).',
    );
  }
  const given = withoutNulls(readOptions(raw, 'chat.completions.create()', allowed));
  for (const key of UNSUPPORTED_KEYS) {
    if (given.has(key)) throw unsupported(key, given.get(key));
  }
  if (given.has('max_tokens') && given.has('max_completion_tokens')) {
    throw new InvalidOptionError(
      'Expected one of `max_tokens` and `max_completion_tokens`, got both. They mean the same: leave one out.',
    );
  }
  const n = integerOption(given, 'n', { min: 1, max: MAX_CHOICES }) ?? 1;
  for (const key of ['model', 'user']) {
    const value = given.get(key) ?? '';
    if (typeof value !== 'string') throw expected(key, 'a string', value);
  }
  checkResponseFormat(given.get('response_format'));
  const stream = booleanOption(given, 'stream') ?? false;

  const names = new Map<string, string>(Object.entries(CHAT_NAMES));
  if (given.has('max_tokens')) names.set('maxNewTokens', 'max_tokens');
  const options: Record<string, unknown> = { temperature: DEFAULT_TEMPERATURE, maxNewTokens: contextLength };
  for (const [ours, theirs] of names) {
    if (given.has(theirs)) options[ours] = given.get(theirs);
  }
  return {
    messages: parseMessages(given.get('messages')),
    model: (given.get('model') as string | undefined) ?? null,
    stream,
    includeUsage: parseStreamOptions(given.get('stream_options'), stream),
    n,
    options,
    translate(error) {
      if (!(error instanceof InvalidOptionError)) return error;
      let message = error.message.replaceAll('`prompt`', '`messages`');
      for (const [ours, theirs] of names) message = message.replace(new RegExp(`\\b${ours}\\b`, 'g'), theirs);
      return new InvalidOptionError(message);
    },
  };
}

/** The second argument of `create`. */
export function parseChatRequestOptions(raw: unknown): { signal: AbortSignal | null } {
  return { signal: signalOption(readObject(raw ?? {}, 'options', ['signal'])) };
}

function unsupported(name: string, value: unknown): InvalidOptionError {
  return new InvalidOptionError(
    `Expected no \`${name}\`, which is not supported here, got ${inWords(value)}. Leave it out.`,
  );
}

function checkResponseFormat(raw: unknown): void {
  if (raw === undefined) return;
  const type = readObject(raw, 'response_format', ['type', 'json_schema']).get('type');
  if (type !== 'text') {
    throw expected(
      'response_format.type',
      "'text'",
      type,
      'Other formats are not supported here: ask for one in words.',
    );
  }
}

function parseStreamOptions(raw: unknown, stream: boolean): boolean {
  if (raw === undefined) return false;
  const options = readObject(raw, 'stream_options', ['include_usage']);
  if (!stream) {
    throw new InvalidOptionError(
      'Expected `stream_options` with `stream: true` only, got it without. Without a stream the usage is always there.',
    );
  }
  return booleanOption(options, 'include_usage') ?? false;
}

const ROLES = ['system', 'developer', 'user', 'assistant', 'tool'] as const;
/** Strings that some templates read. */
const MESSAGE_TEXTS = ['name', 'reasoning_content', 'tool_call_id'] as const;
/** Other keys of messages in the OpenAI API; taken where they say nothing, as they are in its responses. */
const UNSUPPORTED_MESSAGE_KEYS = ['refusal', 'tool_calls', 'function_call', 'audio', 'annotations'];
const MESSAGE_KEYS = ['role', 'content', ...MESSAGE_TEXTS, ...UNSUPPORTED_MESSAGE_KEYS];

/** Copies of the messages, with nothing left in them but what a template reads. */
export function parseMessages(raw: unknown): PlainChatMessage[] {
  const example = "As in [{ role: 'user', content: 'Hello' }].";
  const items = readList(raw, 'messages', 'an array of messages', example);
  if (items.length === 0) throw new InvalidOptionError(`Expected \`messages\` to have at least 1, got 0. ${example}`);
  return items.map((item, i) => {
    const name = `messages[${i}]`;
    const given = readObject(item, name, MESSAGE_KEYS);
    for (const key of UNSUPPORTED_MESSAGE_KEYS) {
      const value = given.get(key);
      if (value !== undefined && !(Array.isArray(value) && value.length === 0))
        throw unsupported(`${name}.${key}`, value);
    }
    const role = ROLES.find((known) => known === given.get('role'));
    if (role === undefined) throw expected(`${name}.role`, `one of ${ROLES.join(', ')}`, given.get('role'));
    const message: PlainChatMessage = { role, content: parseContent(given.get('content'), `${name}.content`) };
    for (const key of MESSAGE_TEXTS) {
      const value = given.get(key);
      if (value === undefined) continue;
      if (typeof value !== 'string') throw expected(`${name}.${key}`, 'a string', value);
      message[key] = value;
    }
    return message;
  });
}

/** Parts are joined as vLLM and llama.cpp join them for templates that know no parts. */
function parseContent(raw: unknown, name: string): string {
  if (typeof raw === 'string') return raw;
  const parts = readList(raw, name, "a string or an array of { type: 'text', text }", '');
  const texts = parts.map((item, i) => {
    const part = readObject(item, `${name}[${i}]`, null);
    const type = part.get('type');
    if (type !== 'text') throw expected(`${name}[${i}].type`, "'text'", type, 'Only text is supported here.');
    const text = part.get('text');
    if (typeof text !== 'string') throw expected(`${name}[${i}].text`, 'a string', text);
    return text;
  });
  return texts.join('\n');
}

function readList(raw: unknown, name: string, what: string, remedy: string): unknown[] {
  return reading(`\`${name}\``, () => {
    if (!Array.isArray(raw)) throw expected(name, what, raw, remedy);
    return Array.from(raw);
  });
}

/** Copies an object; `keys` null takes any. What is undefined or null is left out. */
function readObject(raw: unknown, name: string, keys: readonly string[] | null): GivenOptions {
  return reading(`\`${name}\``, () => {
    if (!isPlainObject(raw)) throw expected(name, 'a plain object', raw);
    const entries = new Map<string, unknown>();
    for (const key of Reflect.ownKeys(raw)) {
      if (typeof key !== 'string' || (keys !== null && !keys.includes(key))) {
        const shown = String(key).slice(0, 64);
        const suggestion = closestKey(shown, keys ?? []);
        throw new InvalidOptionError(
          suggestion === null
            ? `Unknown key \`${shown}\` of \`${name}\`. Expected one of ${keys?.map((known) => `\`${known}\``).join(', ')}.`
            : `Unknown key \`${shown}\` of \`${name}\`; did you mean \`${suggestion}\`?`,
        );
      }
      entries.set(key, raw[key]);
    }
    return withoutNulls(entries);
  });
}

/** The OpenAI API lets null stand for most things that are not given. */
const withoutNulls = (given: GivenOptions): GivenOptions =>
  new Map([...given].filter(([, value]) => value !== null && value !== undefined));
