/** The arithmetic of the demo page: sums, moving figures, cost model, bench verdict, permalinks. No browser. */
import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type BenchRow, judge } from '../../demo/bench.ts';
import { acceptanceProbability, expectedTokensPerRound, predictSpeedup } from '../../demo/cost_model.ts';
import { firstDifference, median } from '../../demo/measure.ts';
import { verdict } from '../../demo/race_view.ts';
import { defaultState, parseState, stateSearch } from '../../demo/state.ts';
import { addRound, createTally, differencesFromMeta, windowRounds } from '../../demo/tally.ts';
import type { CostReport, MetaInfo, RoundStats } from '../../src/types.ts';

const prefill: RoundStats = {
  index: 0,
  phase: 'prefill',
  draftLength: 0,
  acceptedCount: 0,
  tokenCount: 1,
  roundTimeMs: 50,
};
const verify = (acceptedCount: number, index = 1, draftLength = 3): RoundStats => ({
  index,
  phase: 'verify',
  draftLength,
  acceptedCount,
  tokenCount: acceptedCount + 1,
  roundTimeMs: 10,
});

const meta = (fields: Partial<MetaInfo>): MetaInfo => ({
  id: '0',
  finish_reason: { type: 'length', length: 32 },
  prompt_tokens: 4,
  completion_tokens: 0,
  cached_tokens: 0,
  weight_version: 'default',
  e2e_latency: 1,
  ...fields,
});

/** DESIGN.md §6: 14 verify passes of 3 drafts, 17 accepted, 32 completion tokens. */
const worked = [3, 0, 2, 1, 1, 3, 0, 0, 2, 1, 1, 0, 3, 0];

describe('tally', () => {
  it('sums the worked example', () => {
    const tally = createTally(3);
    addRound(tally, prefill);
    for (const [i, accepted] of worked.entries()) addRound(tally, verify(accepted, i + 1));
    expect(tally.tokenCount).toBe(32);
    expect(tally.acceptedCount).toBe(17);
    expect(tally.histogram).toEqual([5, 4, 2, 3]);
    expect(tally.points.at(-1)?.acceptanceSoFar).toBe(0.40476190476190477);
    expect(tally.points.at(-1)?.tokensPerRoundSoFar).toBeCloseTo(31 / 14, 12);
    expect(tally.points.at(-1)?.tokensPerSecondSoFar).toBeCloseTo(31 / 0.14, 9);
  });

  it('looks back on the last ten verify rounds, and skips plain ones', () => {
    const tally = createTally(3);
    for (let i = 0; i < windowRounds; i++) addRound(tally, verify(0));
    addRound(tally, { ...prefill, phase: 'plain' });
    for (let i = 0; i < 5; i++) addRound(tally, verify(3));
    expect(tally.points.at(-1)?.acceptanceNow).toBe(0.5);
    expect(tally.points.at(-1)?.acceptanceSoFar).toBe(15 / 45);
    expect(tally.plainCount).toBe(1);
  });

  it('has no acceptance without a draft', () => {
    const tally = createTally(0);
    const point = addRound(tally, { ...prefill, phase: 'plain' });
    expect(point.acceptanceNow).toBeNull();
    expect(point.acceptanceSoFar).toBeNull();
    expect(point.tokensPerRoundSoFar).toBeNull();
  });

  it('keeps Σh and Σi·h[i] on any records', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 7 }), { maxLength: 60 }), (accepted) => {
        const tally = createTally(7);
        for (const [i, count] of accepted.entries()) addRound(tally, verify(count, i + 1, 7));
        expect(tally.histogram.reduce((a, b) => a + b, 0)).toBe(tally.verifyCount);
        expect(tally.histogram.reduce((sum, rounds, i) => sum + i * rounds, 0)).toBe(tally.acceptedCount);
        for (const point of tally.points) expect(point.acceptanceNow).toBeGreaterThanOrEqual(0);
        for (const point of tally.points) expect(point.acceptanceNow).toBeLessThanOrEqual(1);
      }),
    );
  });

  it('names what differs from meta_info', () => {
    const tally = createTally(3);
    addRound(tally, prefill);
    for (const accepted of worked) addRound(tally, verify(accepted));
    const equal = meta({
      completion_tokens: 32,
      spec_verify_ct: 14,
      spec_num_proposed_drafts: 42,
      spec_num_correct_drafts: 17,
      spec_correct_drafts_histogram: [5, 4, 2, 3],
    });
    expect(differencesFromMeta(tally, equal)).toEqual([]);
    expect(differencesFromMeta(tally, { ...equal, spec_correct_drafts_histogram: [5, 4, 3, 2] })).toEqual([
      'spec_correct_drafts_histogram[2]: 2 summed from the rounds, 3 in meta_info',
      'spec_correct_drafts_histogram[3]: 3 summed from the rounds, 2 in meta_info',
    ]);
    expect(differencesFromMeta(createTally(0), meta({}))).toEqual([]);
  });
});

describe('cost model', () => {
  const costs: CostReport = {
    committedLength: 48,
    targetStepMs: 10,
    draftStepMs: 1,
    c: 0.1,
    v: [1, 1.1, 1.2, 1.35, 1.5, 1.8, 2, 2.2],
    vSpread: [0, 0, 0, 0, 0, 0, 0, 0],
    sampleCount: 9,
    longContext: null,
  };

  it('gives the figures of the field notes', () => {
    expect(predictSpeedup(costs, 0.8, 1)?.speedup).toBeCloseTo(1.5, 2);
    expect(predictSpeedup(costs, 0.8, 3)?.speedup).toBeCloseTo(1.79, 2);
    expect(predictSpeedup(costs, 0.6, 2)?.speedup).toBeCloseTo(1.4, 2);
    expect(predictSpeedup(costs, 0.8, 0)).toBeNull();
    expect(predictSpeedup({ ...costs, c: null }, 0.8, 3)).toBeNull();
  });

  it('expects k + 1 tokens at α = 1 and one at α = 0', () => {
    expect(expectedTokensPerRound(1, 7)).toBe(8);
    expect(expectedTokensPerRound(0, 7)).toBe(1);
    expect(expectedTokensPerRound(0.5, 3)).toBeCloseTo((1 - 0.5 ** 4) / 0.5, 12);
  });

  it('estimates α from the drafts that were judged', () => {
    // Accepted 3 of 3, 0 of 3, 1 of 3: judged 3 + 1 + 2.
    expect(acceptanceProbability([prefill, verify(3), verify(0), verify(1)])).toBeCloseTo(4 / 6, 12);
    expect(acceptanceProbability([prefill])).toBeNull();
  });

  it('recovers the α that rounds were made with', () => {
    let seed = 1;
    const random = () => {
      seed = (seed * 48271) % 2147483647;
      return seed / 2147483647;
    };
    const rounds = Array.from({ length: 20_000 }, () => {
      let accepted = 0;
      while (accepted < 5 && random() < 0.7) accepted += 1;
      return verify(accepted, 1, 5);
    });
    expect(acceptanceProbability(rounds)).toBeCloseTo(0.7, 2);
  });
});

describe('measuring', () => {
  it('takes the median and finds the first difference', () => {
    expect(median([3, 1, 2])).toBe(2);
    expect(median([4, 1, 2, 3])).toBe(2.5);
    expect(() => median([])).toThrow('at least one value');
    expect(firstDifference([1, 2, 3], [1, 2, 3])).toBeNull();
    expect(firstDifference([1, 2, 3], [1, 9, 3])).toBe(1);
    expect(firstDifference([1, 2, 3], [1, 2])).toBe(2);
  });

  it('says that speculation pays only beyond the spread of the runs', () => {
    const row = (draftLength: number, speedup: number, spread: number): BenchRow => ({
      draftLength,
      speedup,
      spread,
      tokensPerSecond: 100 * speedup,
      acceptanceRate: null,
      alpha: null,
      tokensPerRound: null,
      predictedSpeedup: null,
    });
    const judged = (...rows: BenchRow[]) => judge([row(0, 1, 0.02), ...rows], 'a GPU');
    expect(judged(row(1, 1.2, 0.02), row(2, 1.4, 0.02))).toMatchObject({ pays: true, bestDraftLength: 2 });
    expect(judged(row(1, 1.03, 0.02))).toMatchObject({ pays: false, bestDraftLength: 1 });
    expect(judged(row(1, 0.8, 0.02)).verdict).toContain('does not pay on a GPU');
    expect(judge([row(0, 1, 0)], 'a GPU').pays).toBeNull();
  });

  it('says that a race was won or lost only where every pair says so', () => {
    const verdictOf = (...speedups: number[]) =>
      verdict({ draftLength: 3, speedup: median(speedups), pairs: speedups.map((speedup) => ({ speedup })) });
    expect(verdictOf(1.2, 1.1, 1.3)).toContain(
      'reaches 1.20× the tokens per second of plain decoding: speculation pays',
    );
    expect(verdictOf(0.9, 0.8, 1)).toContain('0.90×');
    expect(verdictOf(0.9, 0.8, 1)).toContain('does not pay');
    expect(verdictOf(0.97, 1.01, 1.05)).toContain('makes no clear difference');
  });
});

describe('permalinks', () => {
  it('come back as they were written', () => {
    fc.assert(
      fc.property(
        fc.string({ minLength: 1, unit: 'grapheme' }).filter((text) => text.trim() !== ''),
        fc.integer({ min: 0, max: 7 }),
        fc.integer({ min: 1, max: 1000 }),
        fc.boolean(),
        fc.boolean(),
        (prompt, draftLength, maxNewTokens, auto, run) => {
          const state = { prompt, draftLength, auto, maxNewTokens };
          expect(parseState(stateSearch(state, run))).toEqual({ state, run });
        },
      ),
    );
  });

  it('fall back to the defaults where they make no sense', () => {
    expect(parseState('?k=8&maxNewTokens=-1&prompt=%20&run=yes')).toEqual({ state: defaultState, run: false });
    expect(parseState('')).toEqual({ state: defaultState, run: false });
  });
});
