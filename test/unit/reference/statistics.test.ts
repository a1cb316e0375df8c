import { expect, test } from 'vitest';
import type { ReferenceRound } from '../../reference/generate.ts';
import { summarizeRounds } from '../../reference/statistics.ts';

const round = (draftCount: number, acceptedCount: number): ReferenceRound => ({
  draftCount,
  acceptedCount,
  committedCount: acceptedCount + 1,
});

test('the worked example: 14 verify passes of 3 drafts, 17 accepted, 32 completion tokens', () => {
  const accepted = [3, 3, 2, 2, 2, 1, 1, 1, 1, 1, 0, 0, 0, 0]; // sums to 17
  const statistics = summarizeRounds(
    accepted.map((count) => round(3, count)),
    32,
    3,
  );
  expect(statistics).toEqual({
    verifyCount: 14,
    plainCount: 0,
    draftedCount: 42,
    acceptedCount: 17,
    acceptRate: 0.40476190476190477,
    acceptLength: 2.2857142857142856,
    histogram: [4, 5, 3, 2],
    acceptRatePerPosition: [10 / 14, 5 / 14, 2 / 14],
  });
});

test('plain rounds count for themselves, shorter rounds only for the positions they proposed', () => {
  const statistics = summarizeRounds([round(2, 2), round(1, 0), round(0, 0)], 6, 2);
  expect(statistics).toEqual({
    verifyCount: 2,
    plainCount: 1,
    draftedCount: 3,
    acceptedCount: 2,
    acceptRate: 2 / 3,
    acceptLength: 5 / 2,
    histogram: [1, 0, 1],
    acceptRatePerPosition: [1 / 2, 1],
  });
});

test('nothing drafted: no rates', () => {
  expect(summarizeRounds([round(0, 0)], 2, 0)).toMatchObject({ acceptRate: null, acceptLength: null, histogram: [0] });
});
