/** Twin of the per-request speculation metrics (DESIGN.md §6), from the rounds of `referenceSpeculative`. */
import type { ReferenceRound } from './generate.ts';

export type ReferenceStatistics = {
  verifyCount: number;
  plainCount: number;
  draftedCount: number;
  acceptedCount: number;
  /** accepted / drafted; null when nothing was drafted, as are the others below. */
  acceptRate: number | null;
  /** (completion tokens − plain rounds) / verify rounds. */
  acceptLength: number | null;
  /** h[i] = verify rounds with exactly i accepted drafts, i = 0..draftLength. */
  histogram: number[];
  /** [i] = rounds that accepted draft i / rounds that proposed it. */
  acceptRatePerPosition: (number | null)[];
};

export function summarizeRounds(
  rounds: readonly ReferenceRound[],
  completionTokens: number,
  draftLength: number,
): ReferenceStatistics {
  const verifyRounds = rounds.filter(({ draftCount }) => draftCount > 0);
  const verifyCount = verifyRounds.length;
  const plainCount = rounds.length - verifyCount;
  const draftedCount = verifyRounds.reduce((sum, { draftCount }) => sum + draftCount, 0);
  const acceptedCount = verifyRounds.reduce((sum, round) => sum + round.acceptedCount, 0);
  const count = (condition: (round: ReferenceRound) => boolean) => verifyRounds.filter(condition).length;
  return {
    verifyCount,
    plainCount,
    draftedCount,
    acceptedCount,
    acceptRate: draftedCount === 0 ? null : acceptedCount / draftedCount,
    acceptLength: verifyCount === 0 ? null : (completionTokens - plainCount) / verifyCount,
    histogram: Array.from({ length: draftLength + 1 }, (_, i) => count((round) => round.acceptedCount === i)),
    acceptRatePerPosition: Array.from({ length: draftLength }, (_, i) => {
      const proposed = count((round) => round.draftCount > i);
      return proposed === 0 ? null : count((round) => round.acceptedCount > i) / proposed;
    }),
  };
}
