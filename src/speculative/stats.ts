/** Statistics of one request, from its records and nothing else. Definitions: docs/metrics.md. */
import type { BatchEvent } from '../event_types.ts';
import type { FinishReason, MetaInfo, RequestStats, RoundStats } from '../types.ts';
import type { EmittedRecord, RoundRecord } from './record.ts';

/** Sums over the records of one request. Plain sums: the order in which records enter does not matter. */
export type RequestCounters = {
  /** Emitted tokens, an end-of-sequence token included. */
  completionTokens: number;
  verifyCount: number;
  plainCount: number;
  /** Drafts proposed, as the records tell it; never verifyCount × a configured k. */
  draftedCount: number;
  /** Drafts accepted, before truncation, bonus tokens excluded. */
  acceptedCount: number;
  /** [d] = rounds after the prefill with d drafts; as long as the largest d seen demands. */
  roundsByDraftCount: number[];
  /** [i] = verify rounds with exactly i accepted drafts; as long as the largest i seen demands. */
  acceptedHistogram: number[];
  /** [i] = rounds that proposed a draft at position i (from 0). */
  draftedPerPosition: number[];
  /** [i] = rounds that accepted the draft at position i; as long as draftedPerPosition. */
  acceptedPerPosition: number[];
};

/** What the engine knows of a request beside its records. */
export type RequestFacts = {
  id: string;
  finishReason: FinishReason;
  promptTokens: number;
  cachedTokens: number;
  /** From the call to the last token, queueing included. */
  latencyMs: number;
};

export type RequestTimings = {
  queueTimeMs: number;
  timeToFirstTokenMs: number;
  /** Prompt tokens that were computed. */
  prefillTokens: number;
  decodeTimeMs: number;
  /** Time of a plain round; null where it is not known. */
  plainRoundMs: number | null;
  expectedSpeedup: number | null;
};

export function createRequestCounters(): RequestCounters {
  return {
    completionTokens: 0,
    verifyCount: 0,
    plainCount: 0,
    draftedCount: 0,
    acceptedCount: 0,
    roundsByDraftCount: [],
    acceptedHistogram: [],
    draftedPerPosition: [],
    acceptedPerPosition: [],
  };
}

/**
 * Whether a record counts at all. No-ops emit nothing; a round without finite logits ends its request with an error,
 * and what it claims to have accepted is noise. (Records of a dead epoch are dropped before anyone asks.)
 */
export function isCounted(record: RoundRecord): record is EmittedRecord {
  return record.phase !== 'noop' && !record.nonFinite;
}

function addOne(counts: number[], index: number): void {
  while (counts.length <= index) counts.push(0);
  counts[index]! += 1;
}

/** Adds a record of the live epoch to the counters, in place. */
export function addRecord(counters: RequestCounters, record: RoundRecord): void {
  if (!isCounted(record)) return;
  counters.completionTokens += record.committedCount;
  if (record.phase !== 'prefill') addOne(counters.roundsByDraftCount, record.draftCount);
  if (record.phase === 'plain') counters.plainCount += 1;
  if (record.phase !== 'verify') return;
  counters.verifyCount += 1;
  counters.draftedCount += record.draftCount;
  counters.acceptedCount += record.acceptedCount;
  addOne(counters.acceptedHistogram, record.acceptedCount);
  for (let position = 0; position < record.draftCount; position += 1) {
    addOne(counters.draftedPerPosition, position);
    // Drafts form a chain: the accepted ones are always the first acceptedCount.
    counters.acceptedPerPosition[position] =
      (counters.acceptedPerPosition[position] ?? 0) + (position < record.acceptedCount ? 1 : 0);
  }
}

/** The request's metrics under SGLang's names; without a proposed draft the `spec_*` keys are absent, not 0 or NaN. */
export function metaInfo(counters: RequestCounters, facts: RequestFacts): MetaInfo {
  const meta: MetaInfo = {
    id: facts.id,
    finish_reason: facts.finishReason,
    prompt_tokens: facts.promptTokens,
    completion_tokens: counters.completionTokens,
    cached_tokens: facts.cachedTokens,
    weight_version: 'default',
    e2e_latency: facts.latencyMs / 1000,
  };
  if (counters.verifyCount === 0) return meta;
  return {
    ...meta,
    spec_verify_ct: counters.verifyCount,
    spec_plain_ct: counters.plainCount,
    spec_num_proposed_drafts: counters.draftedCount,
    spec_num_correct_drafts: counters.acceptedCount,
    spec_accept_rate: counters.acceptedCount / counters.draftedCount,
    spec_accept_length: (counters.completionTokens - counters.plainCount) / counters.verifyCount,
    spec_correct_drafts_histogram: [...counters.acceptedHistogram],
    spec_accept_rate_per_pos: counters.draftedPerPosition.map(
      (drafted, position) => counters.acceptedPerPosition[position]! / drafted,
    ),
  };
}

export function requestStats(counters: RequestCounters, timings: RequestTimings): RequestStats {
  const { verifyCount, plainCount, draftedCount, acceptedCount, completionTokens } = counters;
  const { queueTimeMs, timeToFirstTokenMs, prefillTokens, decodeTimeMs, plainRoundMs, expectedSpeedup } = timings;
  // A browser's clock may be as coarse as 0.1 ms, so a decode time of 0 is possible and says nothing.
  const msPerToken = completionTokens > 1 && decodeTimeMs > 0 ? decodeTimeMs / (completionTokens - 1) : null;
  return {
    roundCount: verifyCount + plainCount,
    verifyCount,
    plainCount,
    draftedCount,
    acceptedCount,
    acceptanceRate: draftedCount > 0 ? acceptedCount / draftedCount : null,
    tokensPerRound: verifyCount > 0 ? (acceptedCount + verifyCount) / verifyCount : null,
    queueTimeMs,
    timeToFirstTokenMs,
    prefillTokensPerSecond: timeToFirstTokenMs > 0 ? (prefillTokens * 1000) / timeToFirstTokenMs : null,
    decodeTimeMs,
    timePerOutputTokenMs: msPerToken,
    tokensPerSecond: msPerToken === null ? null : 1000 / msPerToken,
    observedSpeedup: msPerToken === null || plainRoundMs === null ? null : plainRoundMs / msPerToken,
    expectedSpeedup,
  };
}

export function roundStats(record: EmittedRecord, roundTimeMs: number): RoundStats {
  return {
    index: record.roundIndex,
    phase: record.phase,
    draftLength: record.draftCount,
    acceptedCount: record.acceptedCount,
    tokenCount: record.committedCount,
    roundTimeMs,
  };
}

/** What `engine.on('batch')` tells of a closed window. */
export function batchEvent(
  window: Pick<BatchEvent, 'batchCount' | 'tokenCount' | 'verifyCount' | 'draftedCount' | 'acceptedCount'>,
  now: Pick<BatchEvent, 'runningCount' | 'waitingCount' | 'elapsedMs'>,
): BatchEvent {
  const { verifyCount, draftedCount, acceptedCount } = window;
  const hasDrafts = verifyCount > 0;
  return {
    ...window,
    acceptanceRate: hasDrafts ? acceptedCount / draftedCount : null,
    tokensPerRound: hasDrafts ? (acceptedCount + verifyCount) / verifyCount : null,
    ...now,
  };
}

/** The log line of a window of decode batches, in the manner of SGLang. Without a verify round it says nothing of drafts. */
export function batchLine({
  acceptanceRate,
  tokensPerRound,
  tokenCount,
  runningCount,
  waitingCount,
  elapsedMs,
}: BatchEvent): string {
  const drafts =
    tokensPerRound === null || acceptanceRate === null
      ? ''
      : ` accept len: ${tokensPerRound.toFixed(2)}, accept rate: ${acceptanceRate.toFixed(2)},`;
  const throughput = ((tokenCount * 1000) / Math.max(elapsedMs, 1)).toFixed(2);
  return `Decode batch, #running-req: ${runningCount},${drafts} gen throughput (token/s): ${throughput}, #queue-req: ${waitingCount}`;
}

/** The log line of a finished request: `Finish: ` and its meta_info as JSON, always one line. */
export function finishLine(meta: MetaInfo): string {
  // JSON leaves U+2028 and U+2029 alone; some log viewers break lines at them.
  const json = JSON.stringify(meta).replace(/[\u2028\u2029]/g, (c) => `\\u${c.charCodeAt(0).toString(16)}`);
  return `Finish: ${json}`;
}
