/** Typed access to the metadata of a GGUF file; a value of another type is an error that names its key. */
import { ModelFormatError } from '../errors.ts';
import type { GgufHead, GgufValue } from './gguf.ts';

export type MetadataReader = {
  /** Of the file, for errors. */
  name: string;
  has(key: string): boolean;
  /** Undefined where the key is not there. */
  value(key: string): GgufValue | undefined;
  /** Without a fallback the key must be there. */
  text(key: string, fallback?: string): string;
  number(key: string, fallback?: number): number;
  boolean(key: string, fallback: boolean): boolean;
  /** Null where the key is not there. */
  texts(key: string): string[] | null;
  numbers(key: string): ArrayLike<number> | null;
};

export function readMetadata({ metadata }: Pick<GgufHead, 'metadata'>, name: string): MetadataReader {
  const fault = (key: string, expected: string): ModelFormatError =>
    new ModelFormatError(
      `${name}: expected metadata ${key} to be ${expected}, got ${preview(metadata.get(key))}. ` +
        'Download or convert the file again.',
    );
  const read =
    <T extends GgufValue>(isOfType: (value: GgufValue) => value is T, expected: string) =>
    (key: string, fallback?: T): T => {
      const value = metadata.get(key) ?? fallback;
      if (value === undefined || !isOfType(value)) throw fault(key, expected);
      return value;
    };
  const text = read((value) => typeof value === 'string', 'a text');
  const number = read((value) => typeof value === 'number', 'a number');
  return {
    name,
    has: (key) => metadata.has(key),
    value: (key) => metadata.get(key),
    text,
    number,
    boolean: read((value) => typeof value === 'boolean', 'true or false'),
    texts(key) {
      const value = metadata.get(key);
      if (value === undefined) return null;
      if (!Array.isArray(value) || !value.every((entry) => typeof entry === 'string'))
        throw fault(key, 'a list of texts');
      return value as string[];
    },
    numbers(key) {
      const value = metadata.get(key);
      if (value === undefined) return null;
      if (!ArrayBuffer.isView(value) || value instanceof BigInt64Array || value instanceof BigUint64Array) {
        throw fault(key, 'a list of numbers');
      }
      return value;
    },
  };
}

function preview(value: GgufValue | undefined): string {
  if (value === undefined) return 'nothing';
  if (typeof value === 'object') return `a list of length ${value.length}`;
  return typeof value === 'string' ? JSON.stringify(value.slice(0, 60)) : String(value);
}
