/** Readers of single values that a caller passed in, and the words of their errors. Nothing here trusts its input. */
import { InvalidOptionError } from './errors.ts';

/** The options of one call, by name; what was not given is not in it. */
export type GivenOptions = ReadonlyMap<string, unknown>;

/** A value in words, for messages. Never throws, whatever the value does when touched. */
export function inWords(value: unknown): string {
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

/** Own properties of any realm's `{}`, or of an object without a prototype. May throw for proxies. */
export function isPlainObject(value: unknown): value is Record<string | symbol, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  const prototype: unknown = Object.getPrototypeOf(value);
  // Object.prototype of any realm: the one prototype without a prototype of its own.
  return prototype === null || Object.getPrototypeOf(prototype) === null;
}

export function expected(option: string, what: string, got: unknown, remedy = ''): InvalidOptionError {
  const end = remedy === '' ? '' : ` ${remedy}`;
  return new InvalidOptionError(`Expected \`${option}\` to be ${what}, got ${inWords(got)}.${end}`);
}

/** Runs code that touches the caller's objects; getters and proxies may throw anything. */
export function reading<T>(what: string, read: () => T): T {
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

export function integerOption(
  options: GivenOptions,
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

export type NumberRange = { min: number; max: number; excludesMin?: boolean };

/** Checks one number; `name` says where it stood. */
export function numberIn(name: string, value: unknown, { min, max, excludesMin }: NumberRange, remedy = ''): number {
  if (typeof value !== 'number' || !(value >= min && value <= max) || (excludesMin && value === min)) {
    const what = excludesMin ? `a number above ${min}, up to ${max}` : `a number from ${min} to ${max}`;
    throw expected(name, what, value, remedy);
  }
  return value + 0; // -0 becomes 0
}

export function numberOption(options: GivenOptions, key: string, range: NumberRange, remedy = ''): number | undefined {
  const value = options.get(key);
  return value === undefined ? undefined : numberIn(key, value, range, remedy);
}

export function booleanOption(options: GivenOptions, key: string, remedy = ''): boolean | undefined {
  const value = options.get(key);
  if (value === undefined) return undefined;
  if (typeof value !== 'boolean') throw expected(key, 'true or false', value, remedy);
  return value;
}

/** Checks one token id; `name` says where it stood. */
export function tokenId(name: string, value: unknown, vocabSize: number): number {
  if (typeof value !== 'number' || !Number.isInteger(value) || value < 0 || value >= vocabSize) {
    const remedy = 'Use the tokenizer of the target model.';
    throw expected(name, `a token id from 0 to ${vocabSize - 1}`, value, remedy);
  }
  return value + 0; // -0 becomes 0
}

export function textOption(options: GivenOptions, key: string, what: string, remedy = ''): string | undefined {
  const value = options.get(key);
  if (value === undefined) return undefined;
  if (typeof value !== 'string' || value.trim() === '') throw expected(key, what, value, remedy);
  return value;
}
