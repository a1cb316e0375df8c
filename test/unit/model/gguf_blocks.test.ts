import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { type BlockDtype, blockFormats, dequantizeBlocks } from '../../../src/model/gguf_blocks.ts';
import { toFloat32 } from '../../../src/model/stored_values.ts';
import { dequantizeGguf, type GgufBlockType } from '../../reference/dequantize_gguf.ts';
import { createRandom } from '../../reference/random.ts';

/** By the Python package `gguf` (test/reference/tools/make_gguf_blocks.py). */
const fixture: Record<string, { blocks: string; values: string }> = JSON.parse(
  readFileSync(new URL('../../reference/data/gguf_blocks.json', import.meta.url), 'utf8'),
);
const bytesOf = (base64: string) => Uint8Array.from(Buffer.from(base64, 'base64'));
const types = Object.keys(blockFormats) as BlockDtype[];
/** Compares bits: −0 is not 0 here. */
const bitsOf = (values: Float32Array) => new Uint32Array(values.slice().buffer);

test('the fixture has all types', () => {
  expect(Object.keys(fixture).sort()).toEqual([...types].sort());
});

describe.each(types)('%s', (type) => {
  const blocks = bytesOf(fixture[type]!.blocks);
  const expected = new Float32Array(bytesOf(fixture[type]!.values).buffer);

  test("the reference package's values, bit for bit", () => {
    expect(expected.length).toBeGreaterThanOrEqual(6 * 32);
    expect(bitsOf(dequantizeBlocks(type, blocks))).toEqual(bitsOf(expected));
  });

  test('the twin agrees with the reference package', () => {
    expect(bitsOf(Float32Array.from(dequantizeGguf(type as GgufBlockType, blocks)))).toEqual(bitsOf(expected));
  });

  test('random blocks: the twin’s values, rounded once', () => {
    const random = createRandom(7);
    const data = Uint8Array.from({ length: 50 * blockFormats[type].bytes }, () => random.integer(256));
    const got = dequantizeBlocks(type, data);
    const twin = Float32Array.from(dequantizeGguf(type as GgufBlockType, data));
    expect(got.length).toBe(50 * blockFormats[type].values);
    const differing = got.findIndex((value, i) => !Object.is(value, twin[i]));
    expect({ differing }).toEqual({ differing: -1 });
  });

  test('at any byte offset, and as elements of a tensor', () => {
    const shifted = new Uint8Array(blocks.length + 3);
    shifted.set(blocks, 3);
    expect(bitsOf(toFloat32({ dtype: type, data: shifted.subarray(3) }))).toEqual(bitsOf(expected));
  });
});
