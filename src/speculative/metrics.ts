/** Metrics across requests, and their Prometheus text. Definitions: docs/metrics.md. */
import type { MetaInfo } from '../types.ts';
import type { RoundRecord } from './record.ts';
import { isCounted } from './stats.ts';

/** Decode batches of one gauge window, as in SGLang (`decode_log_interval`). */
export const WINDOW_BATCHES = 40;

/** Sums over verify rounds. */
type VerifySums = { verifyCount: number; draftedCount: number; acceptedCount: number };

export type Metrics = {
  prefix: string;
  modelName: string;
  requestCount: number;
  promptTokens: number;
  generationTokens: number;
  totals: VerifySums;
  /** [i] = rounds that accepted the draft at position i (from 0); as long as the longest draft seen. */
  acceptedPerPosition: number[];
  /** The open window. */
  window: ClosedWindow;
  /** Sums of the last closed window that had a verify round; null before there is one. */
  closed: VerifySums | null;
};

/** A window that has just closed, for the log. */
export type ClosedWindow = VerifySums & { batchCount: number; tokenCount: number };

export function createMetrics(options: { prefix: string; modelName: string }): Metrics {
  return {
    prefix: options.prefix,
    modelName: options.modelName,
    requestCount: 0,
    promptTokens: 0,
    generationTokens: 0,
    totals: { verifyCount: 0, draftedCount: 0, acceptedCount: 0 },
    acceptedPerPosition: [],
    window: emptyWindow(),
    closed: null,
  };
}

const emptyWindow = (): ClosedWindow => ({
  verifyCount: 0,
  draftedCount: 0,
  acceptedCount: 0,
  batchCount: 0,
  tokenCount: 0,
});

function addVerify(sums: VerifySums, record: RoundRecord): void {
  sums.verifyCount += 1;
  sums.draftedCount += record.draftCount;
  sums.acceptedCount += record.acceptedCount;
}

/**
 * Adds the records (one per running sequence) of one decode round of the engine, in place. A batch counts as one
 * decode batch if any sequence decoded in it, plainly or not: the window is time, the ratios are about drafts.
 * Returns the window that it closes, if it does.
 */
export function addBatch(metrics: Metrics, records: readonly RoundRecord[]): ClosedWindow | null {
  const decoded = records.filter((record) => isCounted(record) && record.phase !== 'prefill');
  if (decoded.length === 0) return null;
  for (const record of decoded) {
    metrics.window.tokenCount += record.committedCount;
    if (record.phase !== 'verify') continue;
    addVerify(metrics.totals, record);
    addVerify(metrics.window, record);
    for (let position = 0; position < record.draftCount; position += 1) {
      metrics.acceptedPerPosition[position] =
        (metrics.acceptedPerPosition[position] ?? 0) + (position < record.acceptedCount ? 1 : 0);
    }
  }
  metrics.window.batchCount += 1;
  if (metrics.window.batchCount < WINDOW_BATCHES) return null;
  const closed = metrics.window;
  if (closed.verifyCount > 0) metrics.closed = closed;
  metrics.window = emptyWindow();
  return closed;
}

/** Counts a request that ended, aborted ones included. */
export function addRequest(metrics: Metrics, meta: MetaInfo): void {
  metrics.requestCount += 1;
  metrics.promptTokens += meta.prompt_tokens;
  metrics.generationTokens += meta.completion_tokens;
}

/** What the gauges show now; null before the first verify round. */
export function gaugeValues(metrics: Metrics): { acceptRate: number; acceptLength: number } | null {
  // Until a window has closed with a value, the open one is better than nothing.
  const sums = metrics.closed ?? metrics.window;
  if (sums.verifyCount === 0) return null;
  return {
    acceptRate: sums.acceptedCount / sums.draftedCount,
    acceptLength: (sums.acceptedCount + sums.verifyCount) / sums.verifyCount,
  };
}

function escapeLabel(value: string): string {
  return value.replace(/\\/g, '\\\\').replace(/"/g, '\\"').replace(/\n/g, '\\n');
}

type Sample = { value: number; position?: number };

/** Prometheus text exposition format 0.0.4. Gauges without a value have HELP and TYPE, and no sample. */
export function prometheusText(metrics: Metrics): string {
  const labels = `engine_type="unified",model_name="${escapeLabel(metrics.modelName)}",tp_rank="0",pp_rank="0"`;
  const lines: string[] = [];
  const family = (name: string, type: 'counter' | 'gauge', help: string, samples: Sample[]): void => {
    const fullName = `${metrics.prefix}${name}`;
    lines.push(`# HELP ${fullName} ${help}`, `# TYPE ${fullName} ${type}`);
    for (const { value, position } of samples) {
      const positionLabel = position === undefined ? '' : `,position="${position}"`;
      lines.push(`${fullName}{${labels}${positionLabel}} ${value}`);
    }
  };
  const gauges = gaugeValues(metrics);
  const { totals } = metrics;

  family(
    'spec_accept_rate',
    'gauge',
    `Accepted / proposed draft tokens over the last window of ${WINDOW_BATCHES} decode batches, bonus tokens excluded.`,
    gauges === null ? [] : [{ value: gauges.acceptRate }],
  );
  family(
    'spec_accept_length',
    'gauge',
    `Mean tokens per verify pass over the last window of ${WINDOW_BATCHES} decode batches, bonus token included.`,
    gauges === null ? [] : [{ value: gauges.acceptLength }],
  );
  family('spec_verify_calls_total', 'counter', 'Verify passes, counted once per sequence.', [
    { value: totals.verifyCount },
  ]);
  family('spec_num_drafts_total', 'counter', 'Drafts (runs of at least one draft token) that were verified.', [
    { value: totals.verifyCount },
  ]);
  family('spec_num_draft_tokens_total', 'counter', 'Draft tokens proposed and verified.', [
    { value: totals.draftedCount },
  ]);
  family('spec_num_accepted_tokens_total', 'counter', 'Draft tokens accepted, bonus tokens excluded.', [
    { value: totals.acceptedCount },
  ]);
  family(
    'spec_num_accepted_tokens_per_pos_total',
    'counter',
    'Draft tokens accepted at each position of the draft, counted from 0.',
    metrics.acceptedPerPosition.map((value, position) => ({ value, position })),
  );
  family('num_requests_total', 'counter', 'Requests that ended, aborted ones included.', [
    { value: metrics.requestCount },
  ]);
  family('prompt_tokens_total', 'counter', 'Prompt tokens of requests that ended.', [{ value: metrics.promptTokens }]);
  family('generation_tokens_total', 'counter', 'Emitted tokens of requests that ended.', [
    { value: metrics.generationTokens },
  ]);
  return `${lines.join('\n')}\n`;
}
