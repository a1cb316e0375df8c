/** The benchmark: tokens per second for k = 0..7, and what explains them. No DOM here; `npm run bench` runs the same. */
import type { AdapterInfo, CostReport, Engine, EngineInfo, RoundStats } from 'foretoken';
import { acceptanceProbability, predictSpeedup } from './cost_model.ts';
import { firstDifference, median, type Recording, recordRun, speedOf } from './measure.ts';
import { adapterName } from './words.ts';

export const benchPrompts = [
  'Once upon a time, there was a little girl named Lily.',
  'One day, a small dog went to the forest to find a friend.',
  'Tom and his mom were in the kitchen. They wanted to bake a cake.',
];

export type BenchRow = {
  draftLength: number;
  /** Median over all timed runs of this k. */
  tokensPerSecond: number;
  /** Median distance of those runs from their median, relative to it. */
  spread: number;
  /** Median over (prompt, repeat) of tokens/s with this k / tokens/s with k = 0 of the same prompt and repeat. */
  speedup: number;
  acceptanceRate: number | null;
  /** Agreed / judged drafts: the α of the cost model. */
  alpha: number | null;
  tokensPerRound: number | null;
  predictedSpeedup: number | null;
};

/** How the tokens of a set of rows were chosen. */
export type BenchMode = { temperature: number; seed: number | null };

/** Rows of one way of sampling; speedups are against k = 0 sampled in the same way. */
export type SampledRows = BenchMode & { rows: BenchRow[] };

export const greedy: BenchMode = { temperature: 0, seed: null };
/** Seeded, the text is that of k = 0; without a seed every run writes another. */
export const sampledModes: readonly BenchMode[] = [0.7, 1].flatMap((temperature) => [
  { temperature, seed: 1 },
  { temperature, seed: null },
]);

export function modeName({ temperature, seed }: BenchMode): string {
  return temperature === 0 ? 'greedy' : `${seed === null ? 'unseeded' : 'seeded'}, temperature ${temperature}`;
}

export type BenchReport = {
  date: string;
  userAgent: string;
  adapter: AdapterInfo;
  features: string[];
  lossless: EngineInfo['lossless'];
  paddedRows: boolean;
  /** Absent in reports from before there were two kernels. */
  kernelKind?: EngineInfo['kernelKind'];
  target: EngineInfo['target'];
  draft: EngineInfo['draft'];
  roundsInFlight: number;
  dispatchesPerRound: number[];
  loadTimeMs: number;
  prompts: string[];
  maxNewTokens: number;
  repeatCount: number;
  /** Were the greedy and seeded tokens of every k, in every run, those of k = 0? Times are only in the report when they were. */
  tokensEqual: boolean;
  /** The first disagreement, in words; null when tokensEqual. */
  disagreement: string | null;
  /** Greedy. Empty unless tokensEqual. */
  rows: BenchRow[];
  /** Empty unless tokensEqual, and asked for. */
  sampled: SampledRows[];
  costs: CostReport | null;
  /** Does any k beat plain decoding on this adapter by more than its spread? From the rows; null without rows. */
  pays: boolean | null;
  bestDraftLength: number | null;
  verdict: string;
};

export type BenchOptions = {
  prompts?: readonly string[];
  maxNewTokens?: number;
  repeatCount?: number;
  /** Beside greedy decoding. Default none: each takes as long as that. */
  modes?: readonly BenchMode[];
  signal?: AbortSignal;
  onProgress?: (progress: { done: number; total: number; label: string }) => void;
};

export const draftLengths = [0, 1, 2, 3, 4, 5, 6, 7];

export async function runBench(engine: Engine, options: BenchOptions = {}): Promise<BenchReport> {
  const { prompts = benchPrompts, maxNewTokens = 64, repeatCount = 3, modes = [], signal, onProgress } = options;
  const { info } = engine;
  const ks = info.drafter === null ? [0] : draftLengths;
  const total = (1 + modes.length) * prompts.length * ks.length * (1 + repeatCount) + 1;
  let done = 0;
  const record = async (prompt: string, mode: BenchMode, draftLength: number, label: string) => {
    onProgress?.({ done, total, label: `${label}: ${modeName(mode)}, k = ${draftLength}` });
    const { temperature, seed } = mode;
    const sampling = { temperature, ...(seed === null ? {} : { seed }) };
    const recording = await recordRun(engine, prompt, { draftLength, maxNewTokens, signal, ...sampling });
    done += 1;
    return recording;
  };

  const report: BenchReport = {
    date: new Date().toISOString(),
    // Node 20 has no navigator.
    userAgent: globalThis.navigator?.userAgent ?? 'no browser',
    adapter: info.adapter,
    features: info.features,
    lossless: info.lossless,
    paddedRows: info.paddedRows,
    kernelKind: info.kernelKind,
    target: info.target,
    draft: info.draft,
    roundsInFlight: info.roundsInFlight,
    dispatchesPerRound: info.dispatchesPerRound,
    loadTimeMs: info.loadTimeMs,
    prompts: [...prompts],
    maxNewTokens,
    repeatCount,
    tokensEqual: true,
    disagreement: null,
    rows: [],
    sampled: [],
    costs: null,
    pays: null,
    bestDraftLength: null,
    verdict: '',
  };

  const samplesOf: ModeSamples[] = [];
  for (const mode of [greedy, ...modes]) {
    const measured = await timeMode(mode, { prompts, ks, repeatCount, record });
    if (typeof measured === 'string') {
      const verdict = `No times: the outputs differ (${measured}).`;
      return { ...report, tokensEqual: false, disagreement: measured, verdict };
    }
    samplesOf.push(measured);
  }

  onProgress?.({ done, total, label: 'Measuring c and v' });
  const costs = await engine.measureCosts();
  signal?.throwIfAborted();
  const [rows = [], ...sampledRows] = samplesOf.map((samples) => ks.map((k) => rowOf(k, samples.get(k) ?? [], costs)));
  onProgress?.({ done: total, total, label: 'Done' });
  return {
    ...report,
    rows,
    sampled: modes.map((mode, i) => ({ ...mode, rows: sampledRows[i] ?? [] })),
    costs,
    ...judge(rows, adapterName(info.adapter)),
  };
}

/** By k. */
type ModeSamples = Map<number, Sample[]>;

/** Times every k in one mode; or says which tokens were not those of k = 0, where they must be. */
async function timeMode(
  mode: BenchMode,
  {
    prompts,
    ks,
    repeatCount,
    record,
  }: {
    prompts: readonly string[];
    ks: readonly number[];
    repeatCount: number;
    record: (prompt: string, mode: BenchMode, k: number, label: string) => Promise<Recording>;
  },
): Promise<ModeSamples | string> {
  const expected = new Map<string, Recording>();
  const disagreement = (prompt: string, got: Recording): string | null => {
    const plain = expected.get(prompt);
    if (plain === undefined || (mode.temperature > 0 && mode.seed === null)) return null;
    const index = firstDifference(plain.result.tokens, got.result.tokens);
    if (index === null) return null;
    return (
      `${modeName(mode)}: k = ${got.draftLength} gave token ${got.result.tokens[index] ?? 'none'} at position ${index} of ` +
      `“${prompt}”, k = 0 gave ${plain.result.tokens[index] ?? 'none'}`
    );
  };

  // First the check, which is the warm-up as well; then the times.
  for (const prompt of prompts) {
    for (const k of ks) {
      const recording = await record(prompt, mode, k, 'Checking that the tokens are equal');
      const difference = disagreement(prompt, recording);
      if (difference !== null) return difference;
      if (k === 0) expected.set(prompt, recording);
    }
  }

  const samples: ModeSamples = new Map(ks.map((k) => [k, []]));
  for (let repeat = 0; repeat < repeatCount; repeat++) {
    for (const prompt of prompts) {
      // Interleaved and turned: each k meets each moment of a device that heats up, and none always goes first.
      const order = repeat % 2 === 0 ? ks : [...ks].reverse();
      const speeds = new Map<number, Sample>();
      for (const k of order) {
        const recording = await record(prompt, mode, k, `Timing, repeat ${repeat + 1} of ${repeatCount}`);
        const difference = disagreement(prompt, recording);
        if (difference !== null) return difference;
        const rounds = recording.rounds.map(({ round }) => round.stats);
        speeds.set(k, { speed: speedOf(recording), speedup: 1, rounds });
      }
      const plainSpeed = speeds.get(0)?.speed;
      for (const [k, sample] of speeds) {
        samples.get(k)?.push({ ...sample, speedup: plainSpeed === undefined ? 1 : sample.speed / plainSpeed });
      }
    }
  }
  return samples;
}

type Sample = { speed: number; speedup: number; rounds: RoundStats[] };

function rowOf(draftLength: number, samples: readonly Sample[], costs: CostReport): BenchRow {
  const speeds = samples.map((sample) => sample.speed);
  const verified = samples.flatMap((sample) => sample.rounds.filter((round) => round.phase === 'verify'));
  const drafted = verified.reduce((sum, round) => sum + round.draftLength, 0);
  const accepted = verified.reduce((sum, round) => sum + round.acceptedCount, 0);
  const alpha = acceptanceProbability(verified);
  const tokensPerSecond = median(speeds);
  return {
    draftLength,
    tokensPerSecond,
    spread: median(speeds.map((speed) => Math.abs(speed - tokensPerSecond))) / tokensPerSecond,
    speedup: median(samples.map((sample) => sample.speedup)),
    acceptanceRate: drafted === 0 ? null : accepted / drafted,
    alpha,
    tokensPerRound: verified.length === 0 ? null : (accepted + verified.length) / verified.length,
    predictedSpeedup: predictSpeedup(costs, alpha, draftLength)?.speedup ?? null,
  };
}

/** Says from the rows whether speculation pays. A gain within the runs' own spread is called none. */
export function judge(
  rows: readonly BenchRow[],
  adapter: string,
): { pays: boolean | null; bestDraftLength: number | null; verdict: string } {
  const plain = rows.find((row) => row.draftLength === 0);
  const speculative = rows.filter((row) => row.draftLength > 0);
  if (plain === undefined || speculative.length === 0) {
    return {
      pays: null,
      bestDraftLength: null,
      verdict: 'This engine drafts nothing, so there is nothing to compare.',
    };
  }
  const best = speculative.reduce((a, b) => (b.speedup > a.speedup ? b : a));
  const noise = plain.spread + best.spread;
  const figures =
    `best k = ${best.draftLength}: ${best.speedup.toFixed(2)}× of plain decoding ` +
    `(${best.tokensPerSecond.toFixed(1)} against ${plain.tokensPerSecond.toFixed(1)} tokens/s, ± ${(noise * 100).toFixed(0)} %)`;
  const pays = best.speedup > 1 + noise;
  const word = pays ? 'pays' : best.speedup > 1 ? 'makes no difference beyond the spread of the runs' : 'does not pay';
  return { pays, bestDraftLength: best.draftLength, verdict: `Speculation ${word} on ${adapter}; ${figures}.` };
}
