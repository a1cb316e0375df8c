import { describe, expect, test } from 'vitest';
import { dequantize } from '../../reference/dequantize.ts';
import { decodeFloat16, encodeBfloat16, encodeFloat16, roundToFloat16 } from '../../reference/float_formats.ts';
import { createRandom } from '../../reference/random.ts';

const float16Examples: [bits: number, value: number][] = [
  [0x0000, 0],
  [0x0001, 2 ** -24], // smallest subnormal
  [0x03ff, 1023 * 2 ** -24], // largest subnormal
  [0x0400, 2 ** -14], // smallest normal
  [0x3555, 0.333251953125],
  [0x3c00, 1],
  [0x3c01, 1 + 2 ** -10],
  [0xc000, -2],
  [0x7bff, 65504], // largest finite value
  [0x7c00, Infinity],
  [0xfc00, -Infinity],
];

function bytes(words: number[]): Uint8Array {
  return Uint8Array.from(words.flatMap((word) => [word & 0xff, word >> 8]));
}

describe('float16', () => {
  test.each(float16Examples)('bits 0x%s', (bits, value) => {
    expect(decodeFloat16(bits)).toBe(value);
    expect(encodeFloat16(value)).toBe(bits);
  });
  test('all 65,536 patterns survive decode and encode; NaN stays NaN, −0 keeps its sign', () => {
    for (let bits = 0; bits < 65536; bits++) {
      const value = decodeFloat16(bits);
      if (Number.isNaN(value)) expect((bits & 0x7c00) === 0x7c00 && (bits & 0x3ff) !== 0).toBe(true);
      else if (encodeFloat16(value) !== bits) expect.fail(`0x${bits.toString(16)} became ${encodeFloat16(value)}`);
    }
    expect(Object.is(decodeFloat16(0x8000), -0)).toBe(true);
    expect(decodeFloat16(encodeFloat16(Number.NaN))).toBeNaN();
  });
  test('rounds to nearest, ties to even, overflow to infinity', () => {
    expect(encodeFloat16(1 + 2 ** -11)).toBe(0x3c00); // tie, down to even
    expect(encodeFloat16(1 + 3 * 2 ** -11)).toBe(0x3c02); // tie, up to even
    expect(encodeFloat16(1 + 2 ** -11 + 2 ** -30)).toBe(0x3c01);
    expect(encodeFloat16(2 - 2 ** -12)).toBe(0x4000); // carries into the exponent
    expect(encodeFloat16(2 ** -25)).toBe(0); // tie, down to zero
    expect(encodeFloat16(1.5 * 2 ** -24)).toBe(2);
    expect(encodeFloat16(2 ** -14 - 2 ** -26)).toBe(0x0400); // largest subnormal rounds up to a normal
    expect(encodeFloat16(65519.9)).toBe(0x7bff);
    expect(encodeFloat16(65520)).toBe(0x7c00);
    expect(encodeFloat16(-1e9)).toBe(0xfc00);
  });
  test('the result is the nearest of its neighbours, for 20,000 values of every size', () => {
    const random = createRandom(5);
    for (let i = 0; i < 20_000; i++) {
      const value = random.normal() * 2 ** (random.integer(40) - 25);
      if (Math.abs(value) >= 65504) continue;
      const bits = encodeFloat16(value);
      const error = Math.abs(decodeFloat16(bits) - value);
      expect(error).toBeLessThanOrEqual(Math.abs(decodeFloat16(bits + 1) - value));
      if ((bits & 0x7fff) !== 0) expect(error).toBeLessThanOrEqual(Math.abs(decodeFloat16(bits - 1) - value));
    }
  });
});

describe('dequantize', () => {
  test('F16, at an odd byte offset too', () => {
    const words = float16Examples.map(([bits]) => bits);
    const shifted = new Uint8Array(2 * words.length + 1);
    shifted.set(bytes(words), 1);
    const values = dequantize({ dtype: 'F16', shape: [words.length], data: shifted.subarray(1) });
    expect([...values]).toEqual(float16Examples.map(([, value]) => value));
  });
  test('BF16 is the upper half of an F32', () => {
    const data = bytes([0x3f80, 0xc049, 0x7f80, 0x0001, 0x8000]);
    const values = dequantize({ dtype: 'BF16', shape: [5], data });
    expect([...values]).toEqual([1, -3.140625, Infinity, 2 ** -133, -0]);
  });
  test('F32 keeps every bit', () => {
    const floats = Float32Array.of(Math.PI, -1e-45, 3.4e38, 0.1);
    const data = new Uint8Array(floats.buffer);
    expect([...dequantize({ dtype: 'F32', shape: [2, 2], data })]).toEqual([...floats]);
  });
  test('refuses data of another length than the shape', () => {
    expect(() => dequantize({ dtype: 'F16', shape: [2, 3], data: new Uint8Array(10) })).toThrow(
      'Expected F16 [2, 3] of 12 bytes, got 10 bytes.',
    );
  });
});

test('encodeBfloat16 rounds to nearest, ties to even', () => {
  expect(encodeBfloat16(1)).toBe(0x3f80);
  expect(encodeBfloat16(-3.140625)).toBe(0xc049);
  expect(encodeBfloat16(1 + 2 ** -8)).toBe(0x3f80);
  expect(encodeBfloat16(1 + 3 * 2 ** -8)).toBe(0x3f82);
  expect(encodeBfloat16(1 + 2 ** -8 + 2 ** -20)).toBe(0x3f81);
  expect(encodeBfloat16(Number.NaN)).toBe(0x7fc0);
});

test('roundToFloat16 leaves F16 values alone and moves others', () => {
  expect([...roundToFloat16(Float64Array.of(0.5, 0.1, 65504))]).toEqual([0.5, 0.0999755859375, 65504]);
});
