import { expect, it } from 'vitest';
import { type Kind, reportOf } from '../../../src/speculative/costs.ts';

const long = 1048;
/** Two of the samples are too high, in turn. */
const samplesOf = (ms: number): number[] => [ms, ms * 1.5, ms];
const pass = (length: number, rows: number, ms: number): [Kind, number] => [{ length, rows, drafts: 0 }, ms];
const drafts = (length: number, rows: number, ms: number): [Kind, number] => [{ length, rows, drafts: 4 }, ms];
const report = (timed: readonly [Kind, number][], longLength: number | null) =>
  reportOf(
    timed.map(([kind]) => kind),
    timed.map(([, ms]) => samplesOf(ms)),
    { length: 48, long: longLength, sampleCount: 3 },
  );

const passes = [pass(48, 1, 10), pass(48, 2, 12), pass(48, 4, 15), pass(48, 8, 22)];
const longPasses = [pass(long, 1, 14), pass(long, 8, 40)];

it('reports what was timed: rows between cost as the next pipeline, at the long context what they grow lies between', () => {
  const costs = report([...passes, drafts(48, 4, 23), drafts(48, 0, 9), ...longPasses, drafts(long, 0, 13)], long);
  expect(costs).toMatchObject({ committedLength: 48, targetStepMs: 10, draftStepMs: 2, c: 0.2, sampleCount: 3 });
  expect(costs.v).toEqual([1, 1.2, 1.5, 1.5, 2.2, 2.2, 2.2, 2.2]);
  expect(costs.longContext).toMatchObject({ committedLength: long, targetStepMs: 14, draftStepMs: 3, c: 3 / 14 });
  // One row grows by 4 ms, eight by 18, those between by 2 for every row.
  const expected = [14, 12 + 6, 15 + 8, 15 + 10, 22 + 12, 22 + 14, 22 + 16, 40];
  for (const [i, v] of (costs.longContext?.v ?? []).entries()) expect(v * 14).toBeCloseTo(expected[i] as number, 9);
});

it('noise makes no draft free', () => {
  const noisy = [...passes, drafts(48, 4, 14), drafts(48, 0, 9), ...longPasses, drafts(long, 0, 1)];
  const { draftStepMs, longContext } = report(noisy, long);
  expect(draftStepMs).toBe(0.025);
  expect(longContext?.draftStepMs).toBe(0.025);
});

it('without a draft, and without a long context', () => {
  expect(report([...passes, ...longPasses], long)).toMatchObject({
    c: null,
    longContext: { c: null, draftStepMs: null },
  });
  expect(report([pass(48, 1, 10)], null)).toMatchObject({ v: [1], c: null, longContext: null });
  expect(report([pass(48, 1, 10), pass(long, 1, 14)], long).longContext).toMatchObject({ v: [1], targetStepMs: 14 });
});
