import { describe, expect, it } from 'vitest';
import { costsAt, roundCostMs } from '../../../src/speculative/round_cost.ts';
import type { CostReport } from '../../../src/types.ts';

const v = [1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7];
const short: CostReport = {
  committedLength: 48,
  targetStepMs: 10,
  draftStepMs: 2,
  c: 0.2,
  v,
  vSpread: v.map(() => 0),
  sampleCount: 3,
  longContext: null,
};
const longContext = {
  committedLength: 1048,
  targetStepMs: 20,
  draftStepMs: 3,
  c: 0.15,
  v: [1, 1.2, 1.4, 1.6, 1.8, 2, 2.2, 2.4],
};
const costs: CostReport = { ...short, longContext };

describe('what passes cost at a length', () => {
  it('is what was measured at those two', () => {
    const { vSpread, sampleCount, longContext: _, ...measured } = costs;
    expect(costsAt(costs, 48)).toEqual(measured);
    expect(costsAt(costs, 1048)).toEqual(longContext);
  });

  it('lies on the line through both, beyond them too', () => {
    const between = costsAt(costs, 548);
    expect(between).toMatchObject({ committedLength: 548, targetStepMs: 15, draftStepMs: 2.5 });
    expect(between.c).toBeCloseTo(2.5 / 15, 12);
    expect(between.v[7]).toBeCloseTo((17 + 48) / 2 / 15, 12); // half of 1.7 · 10 and of 2.4 · 20
    const beyond = costsAt(costs, 4048);
    expect(beyond).toMatchObject({ targetStepMs: 50, draftStepMs: 6 });
    expect(beyond.v[7]).toBeCloseTo((17 + 4 * 31) / 50, 12);
  });

  it('is within a block the same', () => {
    expect(costsAt(costs, 1)).toEqual({ ...costsAt(costs, 48), committedLength: 1 });
  });

  it('never falls with the length, whatever the noise', () => {
    const noisy = { ...longContext, draftStepMs: 1, v: [1, 1.1, 0.8, 1.3, 0.8, 1.5, 1.6, 0.5] };
    const before = costsAt(short, 48);
    const after = costsAt({ ...short, longContext: noisy }, 4000);
    expect(after.draftStepMs).toBe(2);
    for (const [i, value] of after.v.entries()) {
      expect(value * after.targetStepMs).toBeGreaterThanOrEqual((before.v[i] as number) * before.targetStepMs);
    }
    expect((after.v[7] as number) * after.targetStepMs).toBeCloseTo(17, 12);
  });

  it('is the same everywhere where one length was measured', () => {
    expect(costsAt(short, 4000)).toEqual({ ...costsAt(short, 48), committedLength: 4000 });
  });

  it('has no draft where there is none', () => {
    const plain = { draftStepMs: null, c: null };
    const without: CostReport = { ...short, ...plain, longContext: { ...longContext, ...plain } };
    expect(costsAt(without, 548)).toMatchObject({ targetStepMs: 15, ...plain });
    expect(roundCostMs(without, [3], 548)).toBeCloseTo((13 + 32) / 2, 12);
  });
});

it('a round costs its draft steps and its pass at its length', () => {
  expect(roundCostMs(costs, [3], 48)).toBeCloseTo(3 * 2 + 13, 12);
  expect(roundCostMs(costs, [3], 1048)).toBeCloseTo(3 * 3 + 32, 12);
  expect(roundCostMs(costs, [3], 548)).toBeCloseTo(3 * 2.5 + (13 + 32) / 2, 12);
  // Of ten rows two are over, and cost as a pass of two.
  expect(roundCostMs(costs, [4, 4], 1048)).toBeCloseTo(4 * 3 * 1.2 + 48 + 24, 12);
});
