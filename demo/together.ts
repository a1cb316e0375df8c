/** Sums of stories that are written at once. No DOM here. */
import type { RoundEvent, RoundStats } from 'foretoken';

/** Of one story so far. */
export type StoryTally = { draftedCount: number; acceptedCount: number; verifyCount: number; tokenCount: number };

export const emptyTally = (): StoryTally => ({ draftedCount: 0, acceptedCount: 0, verifyCount: 0, tokenCount: 0 });

export function addStats(tally: StoryTally, stats: Omit<RoundStats, 'roundTimeMs'>): void {
  tally.tokenCount += stats.tokenCount;
  if (stats.phase !== 'verify') return;
  tally.verifyCount += 1;
  tally.draftedCount += stats.draftLength;
  tally.acceptedCount += stats.acceptedCount;
}

/** Accepted / drafted, and (accepted + rounds) / rounds; null without a verify round. */
export function ratesOf({ draftedCount, acceptedCount, verifyCount }: Omit<StoryTally, 'tokenCount'>): {
  rate: number | null;
  length: number | null;
} {
  if (verifyCount === 0) return { rate: null, length: null };
  return { rate: acceptedCount / draftedCount, length: (acceptedCount + verifyCount) / verifyCount };
}

/** What the engine tells of all of them: sums over its rounds. */
export type Gauges = {
  pooled: StoryTally;
  /** Rounds that any story decoded in, and records in them: how many stories shared each. */
  roundCount: number;
  recordCount: number;
};

export const emptyGauges = (): Gauges => ({ pooled: emptyTally(), roundCount: 0, recordCount: 0 });

export function addRound(gauges: Gauges, { records }: RoundEvent): void {
  const decoded = records.filter(({ phase }) => phase !== 'prefill');
  if (decoded.length === 0) return;
  gauges.roundCount += 1;
  gauges.recordCount += decoded.length;
  for (const record of decoded) addStats(gauges.pooled, record);
}
