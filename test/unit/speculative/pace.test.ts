import { expect, test } from 'vitest';
import { createPace } from '../../../src/speculative/pace.ts';
import type { CostReport } from '../../../src/types.ts';

const costs: CostReport = {
  committedLength: 48,
  targetStepMs: 20,
  draftStepMs: 4,
  c: 0.2,
  v: [1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7],
  vSpread: new Array(8).fill(0),
  sampleCount: 3,
  longContext: null,
};

test.each([
  [[0], 1], // 20 ms
  [[3], 2], // 3 · 4 + 1.3 · 20
  [[7], 3], // 7 · 4 + 1.7 · 20
  [[0, 0, 0, 0], 1], // 1.3 · 20
  [[3, 0], 2], // 3 · 4 + 1.4 · 20
  [[3, 3, 3, 3], 3], // 3 · 1.3 · 4 + 2 · 1.7 · 20
])('a round of %j drafts: no submit of more than 30 ms', (draftLengths, submits) => {
  expect(createPace(costs).roundSubmits(draftLengths, 48)).toBe(submits);
  expect(createPace({ ...costs, targetStepMs: 2, draftStepMs: 0.4 }).roundSubmits(draftLengths, 48)).toBe(1);
});

test('a round at a long context is cut by what it costs there', () => {
  const long = { ...costs, committedLength: 1048, targetStepMs: 40, draftStepMs: 14, c: 0.35 };
  const pace = createPace({ ...costs, longContext: long });
  expect([48, 1048, 2048].map((length) => pace.roundSubmits([0], length))).toEqual([1, 2, 2]); // 20, 40, 60 ms
  expect([48, 1048, 2048].map((length) => pace.roundSubmits([3], length))).toEqual([2, 4, 5]); // 38, 94, 150 ms
  expect(pace.roundSubmits([3, 3, 3, 3], 1048)).toBe(7); // 3 · 1.3 · 14 + 2 · 1.7 · 40
});

test('chunks begin with a guess, and go by what they took', () => {
  const pace = createPace(costs);
  expect(pace.chunkSubmits('target', 64)).toBe(11); // 64 · 20 / 4 ms
  expect(pace.chunkSubmits('draft', 64)).toBe(3);
  for (let i = 0; i < 20; i++) pace.observeChunk(64, 88);
  expect(pace.chunkSubmits('target', 64)).toBe(3);
  expect(pace.chunkSubmits('target', 32)).toBe(2);
  expect(pace.chunkSubmits('draft', 64)).toBe(1);
  expect(pace.chunkSubmits('draft', 0)).toBe(1);
  // Few rows are not a chunk's.
  for (let i = 0; i < 20; i++) pace.observeChunk(8, 800);
  expect(pace.chunkSubmits('target', 64)).toBe(3);
});

test('where nothing was measured nothing is cut', () => {
  const pace = createPace(null);
  pace.observeChunk(64, 6400);
  expect([pace.roundSubmits([7], 4000), pace.chunkSubmits('target', 64), pace.chunkSubmits('draft', 64)]).toEqual([
    1, 1, 1,
  ]);
});
