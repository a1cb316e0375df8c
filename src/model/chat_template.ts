/** Chat templates: the Jinja program that came with a model and writes a conversation as the model was trained to read it. */
import { Environment, Interpreter, parse, tokenize } from '@huggingface/jinja';
import type { PlainChatMessage } from '../chat_types.ts';
import { InvalidOptionError, ModelFormatError, UnsupportedModelError } from '../errors.ts';

/** A template as it was found, not yet parsed: a broken one is no reason not to load the model. */
export type ChatTemplate = {
  /** URL of the model, for errors. */
  url: string;
  /** Null for a model that came without. */
  source: string | null;
  /** `bos_token`, `eos_token` and the like, by these names. */
  specialTokens: Readonly<Record<string, string>>;
};

const SPECIAL_TOKENS = ['bos_token', 'eos_token', 'unk_token', 'pad_token', 'sep_token', 'cls_token', 'mask_token'];
/** Longer than any conversation; a template that asks for more would fill the memory. */
const MAX_RANGE = 1_000_000;

/** `given` is `chat_template` of tokenizer_config.json, or what a file of its own says: a text, or a list of named ones. */
export function createChatTemplate(given: unknown, tokenizerConfig: unknown, url: string): ChatTemplate {
  const config = isRecord(tokenizerConfig) ? tokenizerConfig : {};
  const specialTokens: Record<string, string> = {};
  for (const key of SPECIAL_TOKENS) {
    const value = config[key];
    const text = isRecord(value) ? value.content : value;
    if (typeof text === 'string') specialTokens[key] = text;
  }
  return { url, source: templateText(given, url), specialTokens };
}

function templateText(given: unknown, url: string): string | null {
  if (given === null || given === undefined) return null;
  if (typeof given === 'string') return given;
  const named = (Array.isArray(given) ? given : []).filter(
    (entry) => isRecord(entry) && typeof entry.name === 'string' && typeof entry.template === 'string',
  ) as { name: string; template: string }[];
  // The others are for tools, documents and the like.
  const chosen = named.find(({ name }) => name === 'default') ?? (named.length === 1 ? named[0] : undefined);
  if (chosen !== undefined) return chosen.template;
  const names = named.map(({ name }) => JSON.stringify(name.slice(0, 40))).join(', ');
  throw new ModelFormatError(
    `Expected the chat_template of ${url} to be a text, or a list of named texts with one called "default", got ` +
      `${names === '' ? JSON.stringify(given)?.slice(0, 60) : names}. Use the files that came with the model.`,
  );
}

/** The prompt that asks for the assistant's next message. */
export function renderChat(template: ChatTemplate, messages: readonly PlainChatMessage[]): string {
  const { url, source, specialTokens } = template;
  if (source === null) {
    throw new UnsupportedModelError(
      `Expected ${url} to have a chat template (chat_template in tokenizer_config.json, or chat_template.jinja), got none: ` +
        'it is probably a base model. Pass a text to generate(), or use a model made for chats (often named -Instruct or -it).',
    );
  }
  // What most templates do not know goes by the name that it had before.
  const knowsDeveloper = source.includes('developer');
  const given = messages.map((message) =>
    message.role === 'developer' && !knowsDeveloper ? { ...message, role: 'system' } : message,
  );
  let refusal: string | null = null;
  try {
    const environment = new Environment();
    const globals = {
      ...constants,
      range: limitedRange,
      strftime_now: strftimeNow,
      raise_exception(message: unknown) {
        refusal = String(message);
        throw new Error(refusal);
      },
      ...specialTokens,
      messages: given,
      add_generation_prompt: true,
      // There, and null, as in transformers: templates ask for both.
      tools: null,
      documents: null,
    };
    for (const [name, value] of Object.entries(globals)) environment.set(name, value);
    const program = parse(tokenize(source, { lstrip_blocks: true, trim_blocks: true }));
    return String(new Interpreter(environment).run(program).value);
  } catch (error) {
    if (refusal !== null) {
      throw new InvalidOptionError(
        `Expected \`messages\` that the chat template of ${url} takes, but it says: ${refusal} ` +
          `(The roles were ${given.map(({ role }) => role).join(', ')}.)`,
      );
    }
    throw new UnsupportedModelError(
      `Expected the chat template of ${url} to run, got "${error instanceof Error ? error.message : String(error)}". ` +
        'Write the prompt yourself and pass it to generate().',
    );
  }
}

const constants = { true: true, false: false, none: null, True: true, False: false, None: null };

function limitedRange(first: number, second?: number, step = 1): number[] {
  const [start, stop] = second === undefined ? [0, first] : [first, second];
  const length = Math.max(0, Math.ceil((stop - start) / step));
  if (!(length <= MAX_RANGE)) throw new Error(`range() of more than ${MAX_RANGE} numbers`);
  return Array.from({ length }, (_, i) => start + i * step);
}

const MONTHS = 'January February March April May June July August September October November December'.split(' ');
const DAYS = 'Sunday Monday Tuesday Wednesday Thursday Friday Saturday'.split(' ');

/** Python's strftime for now, in its C locale: models were not trained on the names that the user's browser gives to months. */
function strftimeNow(format: string): string {
  const now = new Date();
  const padded = (value: number) => String(value).padStart(2, '0');
  const month = MONTHS[now.getMonth()]!;
  const day = DAYS[now.getDay()]!;
  const fields: Record<string, string> = {
    Y: String(now.getFullYear()),
    m: padded(now.getMonth() + 1),
    d: padded(now.getDate()),
    B: month,
    b: month.slice(0, 3),
    A: day,
    a: day.slice(0, 3),
    H: padded(now.getHours()),
    M: padded(now.getMinutes()),
    S: padded(now.getSeconds()),
    '%': '%',
  };
  return format.replace(/%(.)/g, (directive, letter: string) => fields[letter] ?? directive);
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
