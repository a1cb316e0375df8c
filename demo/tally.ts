/**
 * Numbers of one request, summed on the page from the records of its rounds. The engine sums the same records into
 * `meta_info`; the page compares the two at the end, so a record that got lost or counted twice would be seen.
 */
import type { MetaInfo, RoundStats } from 'foretoken';

/** Verify rounds that the moving figures ("now") look back on. */
export const windowRounds = 10;

/** One round as the charts draw it: the record, and what the sums say right after it. */
export type Point = RoundStats & {
  /** Accepted / drafted over the last `windowRounds` verify rounds; null before the first. */
  acceptanceNow: number | null;
  acceptanceSoFar: number | null;
  /** Mean of acceptedCount + 1 over the same window of verify rounds. */
  tokensPerRoundNow: number | null;
  tokensPerRoundSoFar: number | null;
  /** Tokens / time over the last `windowRounds` rounds of any phase but the prefill. */
  tokensPerSecondNow: number | null;
  tokensPerSecondSoFar: number | null;
};

export type Tally = {
  points: Point[];
  tokenCount: number;
  verifyCount: number;
  plainCount: number;
  draftedCount: number;
  acceptedCount: number;
  /** h[i] = verify rounds with exactly i accepted drafts. */
  histogram: number[];
  /** Tokens after the prefill's, and the time that they took. */
  decodedCount: number;
  decodeTimeMs: number;
  verifyWindow: RoundStats[];
  speedWindow: RoundStats[];
};

export function createTally(draftLength: number): Tally {
  return {
    points: [],
    tokenCount: 0,
    verifyCount: 0,
    plainCount: 0,
    draftedCount: 0,
    acceptedCount: 0,
    histogram: new Array<number>(draftLength + 1).fill(0),
    decodedCount: 0,
    decodeTimeMs: 0,
    verifyWindow: [],
    speedWindow: [],
  };
}

/** Adds a record and returns its point. */
export function addRound(tally: Tally, stats: RoundStats): Point {
  tally.tokenCount += stats.tokenCount;
  if (stats.phase === 'verify') {
    tally.verifyCount += 1;
    tally.draftedCount += stats.draftLength;
    tally.acceptedCount += stats.acceptedCount;
    tally.histogram[stats.acceptedCount] = (tally.histogram[stats.acceptedCount] ?? 0) + 1;
    tally.verifyWindow.push(stats);
    if (tally.verifyWindow.length > windowRounds) tally.verifyWindow.shift();
  }
  if (stats.phase === 'plain') tally.plainCount += 1;
  if (stats.phase !== 'prefill') {
    tally.decodedCount += stats.tokenCount;
    tally.decodeTimeMs += stats.roundTimeMs;
    tally.speedWindow.push(stats);
    if (tally.speedWindow.length > windowRounds) tally.speedWindow.shift();
  }
  const point: Point = {
    ...stats,
    acceptanceNow: ratio(sum(tally.verifyWindow, 'acceptedCount'), sum(tally.verifyWindow, 'draftLength')),
    acceptanceSoFar: ratio(tally.acceptedCount, tally.draftedCount),
    tokensPerRoundNow: meanTokensPerRound(sum(tally.verifyWindow, 'acceptedCount'), tally.verifyWindow.length),
    tokensPerRoundSoFar: meanTokensPerRound(tally.acceptedCount, tally.verifyCount),
    tokensPerSecondNow: perSecond(sum(tally.speedWindow, 'tokenCount'), sum(tally.speedWindow, 'roundTimeMs')),
    tokensPerSecondSoFar: perSecond(tally.decodedCount, tally.decodeTimeMs),
  };
  tally.points.push(point);
  return point;
}

/** What differs between the page's sums and the engine's, one line each; empty when they agree. */
export function differencesFromMeta(tally: Tally, meta: MetaInfo): string[] {
  const pairs: [string, number, number][] = [
    ['completion_tokens', tally.tokenCount, meta.completion_tokens],
    ['spec_verify_ct', tally.verifyCount, meta.spec_verify_ct ?? 0],
    ['spec_num_proposed_drafts', tally.draftedCount, meta.spec_num_proposed_drafts ?? 0],
    ['spec_num_correct_drafts', tally.acceptedCount, meta.spec_num_correct_drafts ?? 0],
  ];
  const theirs = meta.spec_correct_drafts_histogram ?? [];
  for (let i = 0; i < Math.max(theirs.length, tally.histogram.length); i++) {
    pairs.push([`spec_correct_drafts_histogram[${i}]`, tally.histogram[i] ?? 0, theirs[i] ?? 0]);
  }
  return pairs
    .filter(([, summed, reported]) => summed !== reported)
    .map(([name, summed, reported]) => `${name}: ${summed} summed from the rounds, ${reported} in meta_info`);
}

function sum(
  rounds: readonly RoundStats[],
  key: 'acceptedCount' | 'draftLength' | 'tokenCount' | 'roundTimeMs',
): number {
  return rounds.reduce((total, round) => total + round[key], 0);
}

function ratio(part: number, whole: number): number | null {
  return whole === 0 ? null : part / whole;
}

function meanTokensPerRound(accepted: number, rounds: number): number | null {
  return rounds === 0 ? null : (accepted + rounds) / rounds;
}

function perSecond(tokens: number, timeMs: number): number | null {
  return timeMs === 0 ? null : (tokens * 1000) / timeMs;
}
