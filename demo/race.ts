/** The race: one prompt, decoded plainly and with k drafts, one run after the other on one engine. No DOM here. */
import type { CostReport, Engine } from 'foretoken';
import { acceptanceProbability, type Prediction, predictSpeedup } from './cost_model.ts';
import { firstDifference, median, type Recording, recordRun, speedOf } from './measure.ts';

/** Both runs of a pair, in the order in which they ran. */
export type RacePair = { plain: Recording; speculative: Recording; plainFirst: boolean; speedup: number };

export type RaceReport = {
  prompt: string;
  draftLength: number;
  maxNewTokens: number;
  pairs: RacePair[];
  /** Median over the pairs of (tokens/s with k) / (tokens/s with k = 0). */
  speedup: number;
  /** The pair whose speedup is nearest to the median: the one that is replayed. */
  shown: RacePair;
  /** First token in which any speculative run differs from the plain run of its pair; null when all are identical. */
  firstDifference: number | null;
  acceptanceRate: number | null;
  alpha: number | null;
  costs: CostReport;
  prediction: Prediction | null;
  method: string;
};

/** With a warm-up pair longer than this, one timed pair has to do: nobody waits minutes for a median. */
const patienceMs = 30_000;

export async function runRace(
  engine: Engine,
  options: {
    prompt: string;
    draftLength: number;
    maxNewTokens: number;
    signal?: AbortSignal;
    onProgress?: (progress: { done: number; total: number; label: string }) => void;
  },
): Promise<RaceReport> {
  const { prompt, draftLength, maxNewTokens, signal, onProgress } = options;
  const record = (k: number) => recordRun(engine, prompt, { draftLength: k, maxNewTokens, signal });

  onProgress?.({ done: 0, total: 4, label: 'Warm-up: one run each, not timed' });
  const warmUpStart = performance.now();
  await record(0);
  await record(draftLength);
  const pairCount = performance.now() - warmUpStart > patienceMs ? 1 : 3;
  const total = pairCount + 2;

  const pairs: RacePair[] = [];
  for (let i = 0; i < pairCount; i++) {
    onProgress?.({ done: i + 1, total, label: `Timed pair ${i + 1} of ${pairCount}` });
    // The order alternates, so that a device that warms up or slows down favours neither side.
    const plainFirst = i % 2 === 0;
    const first = await record(plainFirst ? 0 : draftLength);
    const second = await record(plainFirst ? draftLength : 0);
    const [plain, speculative] = plainFirst ? [first, second] : [second, first];
    pairs.push({ plain, speculative, plainFirst, speedup: speedOf(speculative) / speedOf(plain) });
  }

  onProgress?.({ done: pairCount + 1, total, label: 'Measuring c and v on this device' });
  const costs = await engine.measureCosts();
  signal?.throwIfAborted();

  const speedup = median(pairs.map((pair) => pair.speedup));
  const shown = pairs.reduce((best, pair) =>
    Math.abs(pair.speedup - speedup) < Math.abs(best.speedup - speedup) ? pair : best,
  );
  const alpha = acceptanceProbability(shown.speculative.rounds.map(({ round }) => round.stats));
  onProgress?.({ done: total, total, label: 'Done' });
  return {
    prompt,
    draftLength,
    maxNewTokens,
    pairs,
    speedup,
    shown,
    firstDifference: earliest(
      pairs.map(({ plain, speculative }) => firstDifference(plain.result.tokens, speculative.result.tokens)),
    ),
    acceptanceRate: shown.speculative.result.stats.acceptanceRate,
    alpha,
    costs,
    prediction: predictSpeedup(costs, alpha, draftLength),
    method:
      `One untimed run each, then ${pairCount === 1 ? 'one timed pair' : `${pairCount} timed pairs in alternating order`} ` +
      `on the same engine, never at the same time; the median of the pairs’ ratios of tokens per second ` +
      `(${pairs.map((pair) => pair.speedup.toFixed(2)).join(', ')}).`,
  };
}

function earliest(indices: readonly (number | null)[]): number | null {
  const found = indices.filter((index) => index !== null);
  return found.length === 0 ? null : Math.min(...found);
}
