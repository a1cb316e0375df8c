import { describe, expect, test } from 'vitest';
import { inverseFrequencies, type RopeConfig, rotationTable } from '../../../src/model/rope.ts';

const plain: RopeConfig = { theta: 10_000, rotaryDim: 8, scaling: { type: 'none' } };
const plainFrequencies = [1, 0.1, 0.01, 0.001];

const expectClose = (got: readonly number[], expected: readonly number[]) => {
  expect(got.length).toBe(expected.length);
  for (const [i, value] of got.entries()) expect(value / (expected[i] as number)).toBeCloseTo(1, 12);
};

// What Hugging Face computes for published models is in published.test.ts.
describe('inverseFrequencies', () => {
  test('a geometric series from 1, of half as many as dimensions turn', () => {
    expectClose(inverseFrequencies(plain), plainFrequencies);
    expectClose(inverseFrequencies({ ...plain, rotaryDim: 4 }), [1, 0.01]);
  });

  test('linear: all divided', () => {
    const scaling = { type: 'linear', factor: 4 } as const;
    expectClose(inverseFrequencies({ ...plain, scaling }), [0.25, 0.025, 0.0025, 0.00025]);
  });

  test('longrope: each by its own divisor', () => {
    const scaling = { type: 'longrope', factors: [1, 2, 4, 5], attentionFactor: 3 } as const;
    expectClose(
      inverseFrequencies({ ...plain, scaling: { ...scaling, factors: [1, 2, 4, 5] } }),
      [1, 0.05, 0.0025, 0.0002],
    );
  });

  test('llama3: short wavelengths kept, long ones divided, blended between', () => {
    // Turns within 2π · 100 positions: 100, 10, 1 and 0.1.
    const scaling = { factor: 8, lowFreqFactor: 2, highFreqFactor: 18, originalContextLength: 200 * Math.PI };
    const share = (10 - 2) / (18 - 2);
    const blended = (1 - share) * (0.1 / 8) + share * 0.1;
    expectClose(inverseFrequencies({ ...plain, scaling: { type: 'llama3', ...scaling } }), [
      1,
      blended,
      0.01 / 8,
      0.001 / 8,
    ]);
  });
});

describe('rotationTable', () => {
  test('(positions, pairs) of (cos, sin)', () => {
    const table = rotationTable(3, plain);
    expect(table.length).toBe(3 * 4 * 2);
    const expected = [0, 1, 2].flatMap((position) =>
      plainFrequencies.flatMap((frequency) => [Math.cos(position * frequency), Math.sin(position * frequency)]),
    );
    for (const [i, value] of table.entries()) expect(value).toBeCloseTo(expected[i] as number, 6);
  });

  test('far out it is as exact as float32 can be', () => {
    const table = rotationTable(100_001, { ...plain, rotaryDim: 2 });
    expect(table[200_000]).toBe(Math.fround(Math.cos(100_000)));
    expect(table[200_001]).toBe(Math.fround(Math.sin(100_000)));
  });

  test('longrope scales both', () => {
    const factors = [1, 1, 1, 1];
    const scaled = rotationTable(2, { ...plain, scaling: { type: 'longrope', factors, attentionFactor: 1.5 } });
    const unscaled = rotationTable(2, plain);
    for (const [i, value] of scaled.entries()) expect(value).toBeCloseTo(1.5 * (unscaled[i] as number), 6);
  });
});
