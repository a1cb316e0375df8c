import { describe, expect, test } from 'vitest';
import { ModelFormatError } from '../../../src/errors.ts';
import { readFolder } from './folders.ts';
import { parseSafetensors } from './loaded.ts';

/** A file from its header text and the size of its data section. */
function build(header: string | Uint8Array, dataBytes: number): Uint8Array {
  const text = typeof header === 'string' ? new TextEncoder().encode(header) : header;
  const file = new Uint8Array(8 + text.length + dataBytes);
  new DataView(file.buffer).setBigUint64(0, BigInt(text.length), true);
  file.set(text, 8);
  for (let i = 0; i < dataBytes; i++) file[8 + text.length + i] = i;
  return file;
}

const parse = (header: string | Uint8Array, dataBytes: number) =>
  parseSafetensors(build(header, dataBytes), 'x.safetensors');
const tensor = (dtype: string, shape: unknown, begin: unknown, end: unknown) =>
  JSON.stringify({ dtype, shape, data_offsets: [begin, end] });

describe('valid files', () => {
  test('data are views of the file, in any order of names', () => {
    const file = build(`{"b":${tensor('F16', [2, 3], 4, 16)},"a":${tensor('F32', [1], 0, 4)}}  `, 16);
    const tensors = parseSafetensors(file, 'x');
    expect([...tensors.keys()].sort()).toEqual(['a', 'b']);
    const b = tensors.get('b')!;
    expect(b.shape).toEqual([2, 3]);
    expect(b.data.buffer).toBe(file.buffer);
    expect([...b.data]).toEqual([4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
  });

  test('a file that is itself a view at an odd offset', () => {
    const file = build(`{"a":${tensor('F32', [1], 0, 4)}}`, 4);
    const outer = new Uint8Array(file.length + 3);
    outer.set(file, 3);
    expect([...parseSafetensors(outer.subarray(3), 'x').get('a')!.data]).toEqual([0, 1, 2, 3]);
  });

  test.each([
    ['no tensors', '{}', 0, 0],
    ['metadata only', '{"__metadata__":{"format":"pt"}}', 0, 0],
    ['a scalar', `{"a":${tensor('BF16', [], 0, 2)}}`, 2, 1],
    ['an empty tensor', `{"a":${tensor('F16', [0, 9007199254740991, 5], 0, 0)},"b":${tensor('F16', [1], 0, 2)}}`, 2, 2],
    ['types that nobody needs', `{"a":${tensor('I64', [1], 0, 8)},"b":${tensor('F4_FUTURE', [3], 8, 10)}}`, 10, 2],
    [
      'names that are special in JavaScript',
      `{"__proto__":${tensor('F16', [1], 0, 2)},"constructor":${tensor('F16', [1], 2, 4)}}`,
      4,
      2,
    ],
    [
      'braces, quotes and commas in strings',
      `{"a\\"{,":${tensor('F16', [1], 0, 2)},"__metadata__":{"a":"\\\\","b":"{\\"a\\":[,]}"}}`,
      2,
      1,
    ],
  ])('%s', (_, header, dataBytes, count) => {
    expect(parse(header, dataBytes).size).toBe(count);
    expect(({} as Record<string, unknown>).dtype).toBeUndefined();
  });

  test('the embedded models', () => {
    for (const model of ['stories-3m', 'stories-650k'] as const) {
      const file = readFolder(model).get('model.safetensors')!;
      const tensors = parseSafetensors(file, model);
      const headerBytes = Number(new DataView(file.buffer, file.byteOffset).getBigUint64(0, true));
      const total = [...tensors.values()].reduce((sum, { data }) => sum + data.length, 0);
      expect(total).toBe(file.length - 8 - headerBytes);
    }
  });
});

const A = `"a":${tensor('F16', [2], 0, 4)}`;

describe('invalid files', () => {
  test.each<[string, string | Uint8Array, number, RegExp]>([
    ['not UTF-8', Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d), 0, /header is not JSON/],
    ['not JSON', '{"a"', 0, /header is not JSON/],
    ['empty header', '', 0, /header is not JSON/],
    ['null', 'null', 0, /not a JSON object/],
    ['tensor is a number', '{"a":1}', 0, /"a" is not described by an object/],
    ['tensor is null', '{"a":null}', 0, /"a" is not described by an object/],
    ['no dtype', '{"a":{"shape":[1],"data_offsets":[0,2]}}', 2, /"a" has no dtype/],
    ['dtype is a number', '{"a":{"dtype":16,"shape":[1],"data_offsets":[0,2]}}', 2, /"a" has no dtype/],
    ['no shape', '{"a":{"dtype":"F16","data_offsets":[0,2]}}', 2, /"a" has the shape missing/],
    ['shape of strings', `{"a":${tensor('F16', ['1'], 0, 2)}}`, 2, /"a" has the shape \["1"\]/],
    ['infinite shape', '{"a":{"dtype":"F16","shape":[1e999],"data_offsets":[0,2]}}', 2, /"a" has the shape/],
    ['shape product just past 2^53', `{"a":${tensor('F16', [2 ** 52, 2], 0, 2)}}`, 2, /"a" overflows/],
    ['no offsets', '{"a":{"dtype":"F16","shape":[1]}}', 2, /"a" has the data_offsets missing/],
    ['three offsets', '{"a":{"dtype":"F16","shape":[1],"data_offsets":[0,2,4]}}', 2, /data_offsets \[0,2,4\]/],
    ['negative offset', `{"a":${tensor('F16', [2], -2, 2)}}`, 2, /data_offsets \[-2,2\]/],
    ['fractional offset', `{"a":${tensor('F16', [1], 0.5, 2.5)}}`, 4, /data_offsets \[0\.5,2\.5\]/],
    ['offsets the wrong way round', `{"a":${tensor('F16', [1], 2, 0)}}`, 2, /data_offsets \[2,0\]/],
    [
      'unknown type beyond the file',
      `{"a":${tensor('FOO', [1], 0, 99)}}`,
      2,
      /"a" ends at byte 99 .* has 2 bytes: the file is truncated/,
    ],
    ['overlap', `{${A},"b":${tensor('F16', [2], 2, 6)}}`, 6, /"b" overlaps "a"/],
    ['hole at the start', `{"b":${tensor('F16', [2], 2, 6)}}`, 6, /a hole of 2 bytes before tensor "b"/],
    ['hole between', `{${A},"b":${tensor('F16', [1], 6, 8)}}`, 8, /a hole of 2 bytes before tensor "b"/],
    ['rest at the end', `{${A}}`, 5, /1 bytes after the last tensor/],
    ['duplicate name', `{${A},${A}}`, 4, /"a" occurs twice/],
    ['duplicate name, escaped', `{${A},"\\u0061":${tensor('F16', [2], 0, 4)}}`, 4, /"a" occurs twice/],
    [
      'duplicate key within a tensor',
      '{"a":{"dtype":"F16","dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
      4,
      /"dtype" occurs twice/,
    ],
    ['metadata that is no object', '{"__metadata__":[1]}', 0, /__metadata__/],
    ['metadata of numbers', '{"__metadata__":{"a":1}}', 0, /__metadata__/],
    ['a very long name', `{"${'n'.repeat(5000)}":1}`, 0, /^.{0,300}$/s],
  ])('%s', (_, header, dataBytes, message) => {
    expect(() => parse(header, dataBytes)).toThrow(ModelFormatError);
    expect(() => parse(header, dataBytes)).toThrow(message);
    expect(() => parse(header, dataBytes)).toThrow(/^x\.safetensors /);
  });

  test('a header over 100 MB is refused although the file is long enough', () => {
    // Zero pages that nobody touches cost nothing.
    const file = new Uint8Array(100_000_100);
    new DataView(file.buffer).setBigUint64(0, 100_000_001n, true);
    expect(() => parseSafetensors(file, 'x')).toThrow(/header length is 100000001, expected at most 100000000/);
  });

  test('deep nesting and many keys are read in linear time', () => {
    const timeOf = (work: () => void): number => {
      const start = performance.now();
      work();
      return performance.now() - start;
    };
    const nested = (depth: number) => () =>
      expect(() => parse(`{"a":${'['.repeat(depth)}${']'.repeat(depth)}}`, 0)).toThrow(ModelFormatError);
    const keys = (count: number) => () => {
      const many = Array.from({ length: count }, (_, i) => `"t${i}":${tensor('F16', [0], 0, 0)}`);
      expect(parse(`{${many.join(',')}}`, 0).size).toBe(count);
    };
    // Ten times as much takes about ten times as long, on a busy machine too; in quadratic time, a hundred times.
    for (const work of [nested, keys]) {
      const few = Math.max(5, ...[1, 2, 3].map(() => timeOf(work(5_000))));
      expect(timeOf(work(50_000)) / few).toBeLessThan(40);
    }
  });
});

/** Deterministic: a failing mutation must fail again. */
function mulberry32(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

test('2,000 mutated headers: a ModelFormatError or tensors that lie within the file, nothing else', () => {
  const random = mulberry32(7);
  const below = (n: number) => Math.floor(random() * n);
  const header = `{"__metadata__":{"format":"pt"},${A},"b":${tensor('F32', [2, 2], 4, 20)},"c":${tensor('BF16', [3], 20, 26)}}`;
  const fragments = [
    '"',
    '{',
    '}',
    '[',
    ']',
    ',',
    ':',
    '\\',
    '-',
    '.',
    '1e9',
    'null',
    '99999999999',
    'F32',
    '"a"',
    '0',
    ' ',
  ];
  const outcomes = { valid: 0, refused: 0 };
  for (let round = 0; round < 2000; round++) {
    let text = header;
    for (let edits = 1 + below(3); edits > 0; edits--) {
      const at = below(text.length);
      text = text.slice(0, at) + fragments[below(fragments.length)] + text.slice(at + below(3));
    }
    const file = build(text, 26);
    // Damages the length, too, and cuts the file.
    if (random() < 0.2) file[below(8)] = below(256);
    const cut = random() < 0.2 ? file.subarray(0, below(file.length)) : file;
    try {
      for (const { data } of parseSafetensors(cut, 'x').values()) {
        expect(data.buffer).toBe(file.buffer);
        expect(data.byteOffset + data.byteLength).toBeLessThanOrEqual(cut.byteOffset + cut.byteLength);
      }
      outcomes.valid++;
    } catch (error) {
      expect(error, text).toBeInstanceOf(ModelFormatError);
      outcomes.refused++;
    }
  }
  // Both kinds occurred, or the mutations are too tame or too wild to mean anything.
  expect(outcomes.valid).toBeGreaterThan(20);
  expect(outcomes.refused).toBeGreaterThan(500);
});
