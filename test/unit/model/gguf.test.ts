import { describe, expect, test } from 'vitest';
import { ModelFormatError, UnsupportedModelError } from '../../../src/errors.ts';
import { type GgufHead, parseGgufHead } from '../../../src/model/gguf.ts';
import {
  type GgufFields,
  type GgufOptions,
  joinBytes,
  type StoredGgufTensor,
  textBytes,
  u32Bytes,
  u64Bytes,
  writeGguf,
} from '../../reference/gguf.ts';
import { createRandom } from '../../reference/random.ts';

const parse = (file: Uint8Array) => parseGgufHead(file, true, 'x.gguf') as GgufHead;
const tensor = (name: string, sizes: number[], type: number, bytes: number): StoredGgufTensor => ({
  name,
  type,
  sizes,
  data: new Uint8Array(bytes).fill(name.length),
});
const fields: GgufFields = {
  u: ['u32', 4_000_000_000],
  i: ['i32', -5],
  f: ['f32', 0.5],
  big: ['u64', 2 ** 40],
  huge: ['raw', 10, new Uint8Array(8).fill(255)],
  negative: ['raw', 11, new Uint8Array(8).fill(255)],
  double: ['raw', 12, new Uint8Array(new Float64Array([Math.PI]).buffer)],
  byte: ['raw', 0, Uint8Array.of(200)],
  signedByte: ['raw', 1, Uint8Array.of(200)],
  short: ['raw', 2, Uint8Array.of(1, 2)],
  signedShort: ['raw', 3, Uint8Array.of(255, 255)],
  yes: ['bool', true],
  no: ['bool', false],
  text: ['string', 'naïve 😀'],
  mark: ['string', '\uFEFFx'],
  empty: ['string', ''],
  texts: ['strings', ['a', '', '\uFEFF', 'Ġthe']],
  numbers: ['i32s', [1, -2, 3]],
  floats: ['f32s', [0.25, -1e30]],
  flags: ['bools', [true, false]],
  none: ['u32s', []],
  nested: [
    'raw',
    9,
    joinBytes([
      u32Bytes(9),
      u64Bytes(2),
      u32Bytes(0),
      u64Bytes(2),
      Uint8Array.of(7, 8),
      u32Bytes(8),
      u64Bytes(1),
      textBytes('z'),
    ]),
  ],
};
const tensors = [
  tensor('a', [5], 0, 20),
  tensor('matrix', [64, 3], 8, 6 * 34),
  tensor('k', [256, 2], 12, 288),
  tensor('none', [0, 7], 1, 0),
  tensor('scalar', [], 30, 2),
];

describe('valid files', () => {
  test.each<[string, GgufOptions]>([
    ['version 3', {}],
    ['version 2', { version: 2 }],
    ['alignment 1', { alignment: 1 }],
    ['alignment 4096', { alignment: 4096 }],
  ])('%s', (_, options) => {
    const file = writeGguf(fields, tensors, options);
    const { metadata, tensors: parsed, dataBegin, dataEnd } = parse(file);
    const expected: Record<string, unknown> = {
      u: 4_000_000_000,
      i: -5,
      f: 0.5,
      big: 2 ** 40,
      huge: 2n ** 64n - 1n,
      negative: -1,
      double: Math.PI,
      byte: 200,
      signedByte: -56,
      short: 513,
      signedShort: -1,
      yes: true,
      no: false,
      text: 'naïve 😀',
      mark: '\uFEFFx',
      empty: '',
      texts: ['a', '', '\uFEFF', 'Ġthe'],
      numbers: Int32Array.of(1, -2, 3),
      floats: Float32Array.of(0.25, -1e30),
      flags: Uint8Array.of(1, 0),
      none: Uint32Array.of(),
      nested: [Uint8Array.of(7, 8), ['z']],
    };
    for (const [key, value] of Object.entries(expected)) expect([key, metadata.get(key)]).toEqual([key, value]);
    expect([...parsed.keys()]).toEqual(tensors.map(({ name }) => name));
    expect(parsed.get('matrix')).toMatchObject({ dtype: 'Q8_0', shape: [3, 64] });
    expect(parsed.get('scalar')).toMatchObject({ dtype: 'BF16', shape: [] });
    for (const { name, data } of tensors) {
      const { begin, end } = parsed.get(name)!;
      expect(file.subarray(begin, end)).toEqual(data);
    }
    expect(parsed.get('a')!.begin).toBe(dataBegin);
    expect(dataEnd).toBe(parsed.get('scalar')!.end);
  });

  test('at an odd offset of a buffer', () => {
    const file = writeGguf(fields, tensors);
    const outer = new Uint8Array(file.length + 3);
    outer.set(file, 3);
    expect(parse(outer.subarray(3))).toEqual(parse(file));
  });

  test('without padding behind the last tensor, and without tensors', () => {
    const file = writeGguf(fields, tensors.slice(0, 1));
    expect(parse(file.subarray(0, file.length - 12)).tensors.size).toBe(1);
    expect(parse(writeGguf({}, []))).toMatchObject({ metadata: new Map(), tensors: new Map() });
  });

  test('every beginning of the file asks for more, until it has the head', () => {
    const file = writeGguf(fields, tensors);
    const { dataBegin, ...whole } = parse(file);
    let complete = 0;
    for (let length = 0; length < file.length; length++) {
      const head = parseGgufHead(file.subarray(0, length), false, 'x');
      if (head !== null) complete += 1;
      else expect(complete).toBe(0);
      if (complete === 1) expect(head).toEqual({ dataBegin, ...whole });
    }
    // The head ends within the padding before the data.
    expect(complete).toBeGreaterThanOrEqual(file.length - dataBegin);
    expect(complete).toBeLessThan(file.length - dataBegin + 32);
  });
});

/** A file by its parts: counts, then whatever follows. */
const raw = (tensorCount: number | bigint, fieldCount: number | bigint, ...parts: Uint8Array[]) =>
  joinBytes([new TextEncoder().encode('GGUF'), u32Bytes(3), huge(tensorCount), huge(fieldCount), ...parts]);
const huge = (value: number | bigint) => new Uint8Array(BigUint64Array.of(BigInt(value)).buffer);
const entry = (type: number, ...value: Uint8Array[]) => [textBytes('key'), u32Bytes(type), ...value];
const info = (name: string, sizes: (number | bigint)[], type: number, offset: number | bigint) =>
  joinBytes([textBytes(name), u32Bytes(sizes.length), ...sizes.map(huge), u32Bytes(type), huge(offset)]);
/** A file with these tensors and a kilobyte of data. */
const placed = (...infos: Uint8Array[]) => {
  const head = raw(infos.length, 0, ...infos);
  return joinBytes([head, new Uint8Array(1024 + 32 - (head.length % 32))]);
};
const nest = (depth: number): Uint8Array =>
  depth === 0 ? joinBytes([u32Bytes(0), huge(0)]) : joinBytes([u32Bytes(9), huge(1), nest(depth - 1)]);

describe('malformed files', () => {
  test.each<[string, Uint8Array, RegExp]>([
    ['empty', new Uint8Array(0), /ends at byte 0, within a number/],
    ['another format', new Uint8Array(100).fill(1), /begins with 0x01010101, expected "GGUF"/],
    ['2^63 tensors', raw(2n ** 63n, 0), /number of tensors is 9223372036854775808/],
    ['2^64 − 1 entries', raw(0, 2n ** 64n - 1n), /number of metadata entries is 18446744073709551615/],
    [
      'more entries than bytes',
      raw(0, 1000, ...entry(0, Uint8Array.of(1))),
      /within length of a text: it is truncated/,
    ],
    ['a key of 2^40 bytes', raw(0, 1, huge(2 ** 40)), /length of a text is 1099511627776/],
    ['a text beyond the end', raw(0, 1, ...entry(8, huge(1000), new Uint8Array(10))), /within a text: it is truncated/],
    ['an unknown type', raw(0, 1, ...entry(13, new Uint8Array(100))), /metadata "key" is of the unknown type 13/],
    ['a list of an unknown type', raw(0, 1, ...entry(9, u32Bytes(99), huge(1), huge(1))), /of the unknown type 99/],
    [
      'a list of 2^60 numbers',
      raw(0, 1, ...entry(9, u32Bytes(4), huge(2n ** 60n))),
      /length of metadata "key" is 1152/,
    ],
    ['a list of 2^27 numbers', raw(0, 1, ...entry(9, u32Bytes(10), huge(2 ** 27))), /beyond the largest possible head/],
    [
      'a list beyond the end',
      raw(0, 1, ...entry(9, u32Bytes(4), huge(1000))),
      /within metadata "key": it is truncated/,
    ],
    ['a list of 2^27 texts', raw(0, 1, ...entry(9, u32Bytes(8), huge(2 ** 27))), /it is truncated/],
    ['lists in lists in lists …', raw(0, 1, ...entry(9, nest(1000))), /more than 4 deep/],
    ['a key twice', raw(0, 2, ...entry(0, Uint8Array.of(1)), ...entry(0, Uint8Array.of(1))), /"key" occurs twice/],
    [
      'an alignment of 0',
      writeGguf({ 'general.alignment': ['u32', 0] }, []),
      /alignment is 0, expected a power of two/,
    ],
    ['an alignment of 24', writeGguf({ 'general.alignment': ['u32', 24] }, []), /alignment is 24/],
    ['an alignment of 2^31', writeGguf({ 'general.alignment': ['u32', 2 ** 31] }, []), /alignment is 2147483648/],
    ['an alignment of text', writeGguf({ 'general.alignment': ['string', '32'] }, []), /alignment is 32/],
    ['five dimensions', placed(info('t', [1, 1, 1, 1, 1], 0, 0)), /has 5 dimensions/],
    ['4 billion dimensions', placed(joinBytes([textBytes('t'), u32Bytes(2 ** 32 - 1)])), /has 4294967295 dimensions/],
    [
      'an overflowing shape',
      placed(info('t', [2 ** 40, 2 ** 40], 0, 0)),
      /shape \[1099511627776, 1099511627776\] .*overflows/,
    ],
    ['a shape of 2^64 − 1', placed(info('t', [2n ** 64n - 1n], 0, 0)), /overflows/],
    [
      'rows that are no whole blocks',
      placed(info('t', [33], 8, 0)),
      /rows of 33 values, expected a multiple of 32 for Q8_0/,
    ],
    ['rows of K blocks', placed(info('t', [128, 2], 14, 0)), /rows of 128 values, expected a multiple of 256 for Q6_K/],
    ['an offset out of line', placed(info('t', [2], 0, 4)), /offset 4, expected a multiple of 32/],
    ['an offset of 2^63', placed(info('t', [2], 0, 2n ** 63n)), /has the offset 9223372036854776000/],
    ['overlapping tensors', placed(info('t', [20], 0, 0), info('u', [1], 0, 64)), /tensor "u" overlaps "t"/],
    ['tensors in one place', placed(info('t', [1], 0, 0), info('u', [1], 0, 0)), /tensor "u" overlaps "t"/],
    ['a hole', placed(info('t', [1], 0, 0), info('u', [1], 0, 64)), /a hole of 60 bytes before tensor "u"/],
    ['a hole at the start', placed(info('t', [1], 0, 32)), /a hole of 32 bytes before tensor "t"/],
    ['a tensor beyond the end', placed(info('t', [1024], 0, 0)), /tensor "t" ends at byte \d+ of a file of \d+ bytes/],
    ['a tensor twice', placed(info('t', [1], 0, 0), info('t', [1], 0, 32)), /"t" is listed twice/],
    ['a name of line breaks', placed(info('a\nb', [1], 0, 4)), /tensor "a\\nb" has/],
  ])('%s', (_, file, message) => {
    const started = performance.now();
    expect(() => parse(file)).toThrow(ModelFormatError);
    expect(() => parse(file)).toThrow(message);
    expect(() => parse(file)).toThrow(/^x\.gguf is not a valid GGUF file: /);
    expect(performance.now() - started).toBeLessThan(500);
  });

  test.each<[string, Uint8Array, RegExp]>([
    ['version 1', writeGguf({}, [], { version: 1 }), /of version 1, .*only little-endian GGUF of version 2 and 3/],
    ['version 4', writeGguf({}, [], { version: 4 }), /of version 4/],
    ['big-endian', writeGguf({}, [], { version: 3 * 2 ** 24 }), /it is big-endian/],
    [
      'a type without a format here',
      placed(info('t', [256], 16, 0)),
      /"t" has the data type IQ2_XXS, expected one of F32, F16/,
    ],
    ['a type of the future', placed(info('t', [256], 1000, 0)), /"t" has the data type number 1000/],
    ['a type number like a name', placed(info('t', [256], 5, 0)), /"t" has the data type number 5/],
  ])('%s is told apart', (_, file, message) => {
    expect(() => parse(file)).toThrow(UnsupportedModelError);
    expect(() => parse(file)).toThrow(message);
  });

  test('names are unharmful', () => {
    const names = ['__proto__', 'constructor', 'toString'];
    const file = writeGguf(Object.fromEntries(names.map((name) => [name, ['u32', 1]])), [
      tensor('__proto__', [1], 0, 4),
    ]);
    expect(parse(file).tensors.get('__proto__')!.dtype).toBe('F32');
    expect(({} as Record<string, unknown>).dtype).toBeUndefined();
  });

  test('1,000 damaged heads: a typed error or a head that fits the file, soon, and never asking for more than the file', () => {
    const good = writeGguf(fields, tensors);
    const random = createRandom(11);
    const headLength = parse(good).dataBegin;
    const outcomes = { head: 0, error: 0, more: 0 };
    const started = performance.now();
    for (let round = 0; round < 1000; round++) {
      const file = good.slice(0, round % 3 === 0 ? random.integer(good.length) : good.length);
      for (let flips = random.integer(4) + 1; flips > 0 && file.length > 0; flips--) {
        const at = random.integer(Math.min(headLength, file.length));
        // Counts and lengths are mostly small: their upper bytes, set, are the worst.
        file[at] = random.integer(2) === 0 ? 255 : random.integer(256);
      }
      const isWhole = round % 2 === 0;
      try {
        const head = parseGgufHead(file, isWhole, 'x');
        if (head === null) {
          expect(isWhole).toBe(false);
          outcomes.more += 1;
          continue;
        }
        outcomes.head += 1;
        for (const { begin, end } of head.tensors.values()) {
          expect(begin).toBeLessThanOrEqual(end);
          if (isWhole) expect(end).toBeLessThanOrEqual(file.length);
        }
      } catch (error) {
        expect((error as Error).name).toMatch(/^(ModelFormatError|UnsupportedModelError)$/);
        outcomes.error += 1;
      }
    }
    expect(Math.min(outcomes.head, outcomes.error, outcomes.more)).toBeGreaterThan(50);
    expect(performance.now() - started).toBeLessThan(10_000);
  });
});
