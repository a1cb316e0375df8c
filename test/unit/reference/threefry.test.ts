import { expect, test } from 'vitest';
import { exponential, gumbel, purposes, randomBits, threefry, uniformOf } from '../../reference/threefry.ts';

test('threefry gives the known answers of its authors', () => {
  expect(threefry([0, 0], [0, 0])).toEqual([0x6b200159, 0x99ba4efe]);
  expect(threefry([0xffffffff, 0xffffffff], [0xffffffff, 0xffffffff])).toEqual([0x1cb996fc, 0xbb002be7]);
  expect(threefry([0x13198a2e, 0x03707344], [0x243f6a88, 0x85a308d3])).toEqual([0xc4923a9c, 0x483df7a0]);
});

test('the counter is the token, and the position beside the purpose', () => {
  const seed = [7, 9] as const;
  expect(randomBits(seed, 5, purposes.residual, 11)).toBe(threefry(seed, [11, (5 << 2) | 3])[0]);
  const numbers = new Set<number>();
  for (const purpose of Object.values(purposes)) {
    for (const position of [0, 1, 2, 3]) {
      for (const token of [0, 1, 2, 3]) numbers.add(randomBits(seed, position, purpose, token));
    }
  }
  expect(numbers.size).toBe(64);
});

test('a uniform number lies in (0, 1), exactly as an f32 has it', () => {
  for (const bits of [0, 1, 511, 512, 0x7fffffff, 0x80000000, 0xfffffe00, 0xffffffff]) {
    const u = uniformOf(bits);
    expect(Math.fround(u)).toBe(u);
    expect(u).toBeGreaterThan(0);
    expect(u).toBeLessThan(1);
  }
  expect(uniformOf(0)).toBe(2 ** -24);
  expect(uniformOf(0xffffffff)).toBe(1 - 2 ** -24);
});

test('an exponential number is small where the bits are, and finite at both ends', () => {
  expect(exponential(0) * 2 ** 33).toBeCloseTo(1, 9);
  expect(exponential(0xffffffff)).toBeCloseTo(33 * Math.LN2, 12);
  expect(exponential(0x80000000)).toBeCloseTo(Math.LN2, 9);
  expect(gumbel(0)).toBeCloseTo(33 * Math.LN2, 9);
  expect(gumbel(0xffffffff)).toBeCloseTo(-Math.log(33 * Math.LN2), 12);
});

test('the means of 20,000 numbers', () => {
  const seed = [1, 2] as const;
  const bits = Array.from({ length: 20_000 }, (_, token) => randomBits(seed, 3, purposes.draft, token));
  const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  // Four standard errors.
  expect(Math.abs(mean(bits.map(uniformOf)) - 0.5)).toBeLessThan(4 * Math.sqrt(1 / 12 / 20_000));
  expect(Math.abs(mean(bits.map(exponential)) - 1)).toBeLessThan(4 * Math.sqrt(1 / 20_000));
  expect(Math.abs(mean(bits.map(gumbel)) - 0.5772156649)).toBeLessThan(4 * Math.sqrt(Math.PI ** 2 / 6 / 20_000));
});
