/** Why speculation pays or not: Leviathan et al. 2023 with a measured cost of the verify pass. */
import type { CostReport, RoundStats } from 'foretoken';

/**
 * α: the probability that the target agrees with one draft token that it gets to judge. A round stops judging at its
 * first disagreement, so the drafts judged are the accepted ones and that one. (The acceptance rate divides by all
 * proposed drafts, judged or not, and is lower.) Null when nothing was judged.
 */
export function acceptanceProbability(rounds: readonly RoundStats[]): number | null {
  let accepted = 0;
  let judged = 0;
  for (const { acceptedCount, draftLength } of rounds) {
    accepted += acceptedCount;
    judged += Math.min(acceptedCount + 1, draftLength);
  }
  return judged === 0 ? null : accepted / judged;
}

/** E: tokens that a round of k drafts is expected to yield, (1 − α^(k+1)) / (1 − α). */
export function expectedTokensPerRound(alpha: number, draftLength: number): number {
  // Summed, because the closed form divides by zero at α = 1.
  let expected = 0;
  for (let i = 0; i <= draftLength; i++) expected += alpha ** i;
  return expected;
}

export type Prediction = {
  draftLength: number;
  alpha: number;
  /** Draft step / target step. */
  c: number;
  /** Target pass over k + 1 rows / over one row. */
  v: number;
  expectedTokens: number;
  /** k·c + v(k+1): what a round costs, in target steps. */
  roundCost: number;
  /** S = E / (k·c + v(k+1)). */
  speedup: number;
};

/** What a round of k drafts costs, in target steps: k draft steps of c each, and a pass over k + 1 rows that costs v. */
export const roundCost = (c: number, v: number, draftLength: number): number => draftLength * c + v;

/** Null for k = 0, where there is nothing to predict, and where a figure was not measured. */
export function predictSpeedup(costs: CostReport, alpha: number | null, draftLength: number): Prediction | null {
  const v = costs.v[draftLength];
  if (draftLength === 0 || alpha === null || costs.c === null || v === undefined) return null;
  const expectedTokens = expectedTokensPerRound(alpha, draftLength);
  const cost = roundCost(costs.c, v, draftLength);
  return { draftLength, alpha, c: costs.c, v, expectedTokens, roundCost: cost, speedup: expectedTokens / cost };
}
