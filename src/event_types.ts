/** What `engine.on` tells: plain, cloneable data. Definitions: `docs/metrics.md`. */
import type { MetaInfo, RequestStats, RoundStats } from './stats_types.ts';

/** A round's record of one request. */
export type RoundEventRecord = Omit<RoundStats, 'roundTimeMs'> & {
  /** As in `meta_info`. */
  id: string;
  /** Place of the request in the batch, from 0. */
  slot: number;
};

/** One round of the engine (or the pass over a prompt): a record for each request that it was of. */
export type RoundEvent = { records: RoundEventRecord[] };

/** A request that ended, or was aborted. One that failed tells so by its own `result`. */
export type RequestEvent = { meta_info: MetaInfo; stats: RequestStats };

/** The window of 40 decode batches that has just closed: sums over its records, and what the gauges make of them. */
export type BatchEvent = {
  /** 40. */
  batchCount: number;
  /** Emitted tokens. */
  tokenCount: number;
  /** Verify rounds, once per request. */
  verifyCount: number;
  draftedCount: number;
  acceptedCount: number;
  /** acceptedCount / draftedCount; null without a verify round. */
  acceptanceRate: number | null;
  /** (acceptedCount + verifyCount) / verifyCount; null without a verify round. */
  tokensPerRound: number | null;
  /** From the window before, or from loading, to now. */
  elapsedMs: number;
  /** Requests that run now, and that wait for a place. */
  runningCount: number;
  waitingCount: number;
};

export type EngineEvents = { round: RoundEvent; request: RequestEvent; batch: BatchEvent };
export type EngineEventName = keyof EngineEvents;

/**
 * Calls `listener` with each event of this name from now on; returns what ends it. What a listener throws is reported as
 * an uncaught error, and disturbs nobody.
 */
export type OnEngineEvent = <Name extends EngineEventName>(
  name: Name,
  listener: (event: EngineEvents[Name]) => void,
) => () => void;
