import type { Gpu } from '../gpu/device.ts';
import type { Pass } from '../gpu/kernel.ts';
import { gpuIdle, submitPass } from '../gpu/submit.ts';
import { maxRows, rowVariants } from '../kernels/matmul_rows.ts';
import type { CostReport, PassCosts } from '../types.ts';
import {
  blocksOf,
  encodeDraftPrefill,
  encodeDraftStep,
  encodePrefill,
  encodeVerify,
  prefillChunks,
  type RoundMode,
  type RoundPlan,
} from './round.ts';
import { greedySampling } from './sampler.ts';
import { type Sequences, setTurns, startSequence } from './sequence.ts';

/** Committed lengths at which passes are timed: short enough for any context, and long enough for attention to show. */
const shortLength = 48;
const longLength = 1024;
/** Lengths closer than this factor say nothing of growth but noise. */
const leastFactor = 4;
/** A sample repeats its pass until it takes this long, and waits once, so that the sync does not count. */
const sampleMs = 20;
const maxRepeats = 64;
/** At load, samples of a slow pass end when they have taken this long, with the first at the latest. */
const slowKindMs = 120;
const mode: RoundMode = { sampling: 'greedy', logprobs: false };

/**
 * Draft steps in front of a verify pass of so many rows, whose time says what they add to a round: the shorter the pass, the
 * less its noise is of theirs. As many steps by themselves say how they grow with the length.
 */
const timedDrafts = 4;
const draftedRows = 4;

/** Passes are timed in this one. */
const slot = 0;

const allRowCounts = Array.from({ length: maxRows }, (_, k) => k + 1);

/** Row counts that are timed at load: those of the few-rows pipelines. Others run, and cost, as the next of these. */
const quickRowCounts = rowVariants;
/** At the long context those between cost what lies between: attention is of each row. */
const quickLongRowCounts = [1, maxRows];

/** What is timed: a pass over so many rows of the target, or none, at a committed length, behind so many draft steps. */
export type Kind = { length: number; rows: number; drafts: number };

/**
 * Measures c and v(1..8): wall time of passes submitted one behind the other, all kinds interleaved, medians.
 * v(M) is a target pass over M rows against one row, c what a draft step adds to a submit against a target step. What a
 * submit costs by itself is in the target's step, as it is in a round, however many drafts that has.
 * `quick`: what loading an engine has time for; v of 1 row alone where nothing drafts.
 * It writes into the caches of slot 0, which hold nothing afterwards.
 */
export async function measureCosts(
  gpu: Gpu,
  plan: RoundPlan,
  sequences: Sequences,
  { sampleCount, quick = false }: { sampleCount: number; quick?: boolean },
): Promise<CostReport> {
  const longest = Math.max(1, sequences.contextLength - maxRows - 1);
  const length = Math.min(shortLength, longest);
  const long = Math.min(longLength, longest);
  const hasLong = long >= leastFactor * length;
  feedOnce(gpu, plan, sequences, length);

  const speculates = plan.draft !== null || plan.ngram !== null;
  const rowCounts = !quick ? allRowCounts : speculates ? quickRowCounts : [1];
  const longRowCounts = !quick ? allRowCounts : speculates ? quickLongRowCounts : [1];
  const passesAt = (length: number, rowCounts: readonly number[]): Kind[] =>
    rowCounts.map((rows) => ({ length, rows, drafts: 0 }));
  const draftsAt = (length: number, rows: number): Kind[] =>
    plan.draft === null ? [] : [{ length, rows, drafts: timedDrafts }];
  const kinds = [...passesAt(length, rowCounts), ...draftsAt(length, draftedRows)];
  if (hasLong) kinds.push(...draftsAt(length, 0), ...passesAt(long, longRowCounts), ...draftsAt(long, 0));
  const samples = await timeKinds(gpu, plan, sequences, kinds, { sampleCount, quick });
  return reportOf(kinds, samples, { length, long: hasLong ? long : null, sampleCount });
}

/** What the samples of each kind come to. */
export function reportOf(
  kinds: readonly Kind[],
  samples: readonly (readonly number[])[],
  { length, long, sampleCount }: { length: number; long: number | null; sampleCount: number },
): CostReport {
  const medians = samples.map(median);
  const indexOf = (at: number, rows: number, drafts = 0): number =>
    kinds.findIndex((kind) => kind.length === at && kind.rows === rows && kind.drafts === drafts);
  const medianOf = (...kind: Parameters<typeof indexOf>): number => medians[indexOf(...kind)] as number;
  const rowCounts = kinds.filter((kind) => kind.length === length && kind.drafts === 0).map(({ rows }) => rows);
  const reported = allRowCounts.filter((rows) => rows <= (rowCounts.at(-1) as number));
  const timedAs = (rows: number): number => rowCounts.find((count) => count >= rows) as number;
  const passMs = (rows: number): number => medianOf(length, timedAs(rows));
  // Noise must not make drafts free, or a gain.
  const leastMs = (0.01 * passMs(1)) / timedDrafts;
  const draftStepMs = kinds.some(({ drafts }) => drafts > 0)
    ? Math.max((medianOf(length, draftedRows, timedDrafts) - medianOf(length, draftedRows)) / timedDrafts, leastMs)
    : null;
  const figuresAt = (at: number, msOf: (rows: number) => number, draftStepMs: number | null): PassCosts => ({
    committedLength: at,
    targetStepMs: msOf(1),
    draftStepMs,
    c: draftStepMs === null ? null : draftStepMs / msOf(1),
    v: reported.map((rows) => msOf(rows) / msOf(1)),
  });
  const figuresAtLong = (long: number): PassCosts => {
    const growthMs = (rows: number): number => medianOf(long, rows) - passMs(rows);
    const longPassMs = (rows: number): number => {
      if (indexOf(long, rows) >= 0) return medianOf(long, rows);
      return passMs(rows) + growthMs(1) + ((rows - 1) / (maxRows - 1)) * (growthMs(maxRows) - growthMs(1));
    };
    if (draftStepMs === null) return figuresAt(long, longPassMs, null);
    const draftGrowthMs = (medianOf(long, 0, timedDrafts) - medianOf(length, 0, timedDrafts)) / timedDrafts;
    return figuresAt(long, longPassMs, Math.max(draftStepMs + draftGrowthMs, leastMs));
  };
  const spreads = samples.map((values, i) => {
    const middle = medians[i] as number;
    return median(values.map((value) => Math.abs(value - middle))) / middle;
  });
  return {
    ...figuresAt(length, passMs, draftStepMs),
    vSpread: reported.map((rows) => spreads[indexOf(length, timedAs(rows))] as number),
    sampleCount,
    longContext: long === null ? null : figuresAtLong(long),
  };
}

/** Starts a sequence as if `fed` of its tokens were in the caches: what lies there, zeros or an earlier one's, takes as long. */
function startAt(gpu: Gpu, sequences: Sequences, length: number, fed: number): void {
  startSequence(gpu, sequences, slot, 0, {
    promptTokens: new Array<number>(length).fill(0),
    emittedTokens: [],
    targetFed: fed,
    draftFed: fed,
    limit: sequences.contextLength,
    stopTokens: [],
    sampling: greedySampling,
    logprobs: false,
    topLogprobs: 0,
  });
}

/** Feeds a prompt, for drivers to finish compiling what that takes. */
function feedOnce(gpu: Gpu, plan: RoundPlan, sequences: Sequences, length: number): void {
  startAt(gpu, sequences, length, 0);
  for (const chunk of prefillChunks(0, length, plan.target.rowCapacity)) {
    submitPass(gpu, 'cost prefill', (pass) => {
      if (plan.draft !== null) encodeDraftPrefill(pass, plan, slot, chunk);
      encodePrefill(pass, plan, slot, chunk, false, mode);
    });
  }
}

/** [i] = samples of kind i, in ms a pass. */
async function timeKinds(
  gpu: Gpu,
  plan: RoundPlan,
  sequences: Sequences,
  kinds: readonly Kind[],
  { sampleCount, quick }: { sampleCount: number; quick: boolean },
): Promise<number[][]> {
  // A lookup would find no drafts in this text, and a pass without drafts is one row.
  const full: RoundPlan = { ...plan, rows: { ...plan.rows, verify: plan.rows.verifyAll } };
  const time = async ({ length, rows, drafts }: Kind, repeats: number): Promise<number> => {
    const blocks = blocksOf(plan.target, length + maxRows);
    const encode = (pass: Pass): void => {
      for (let i = 0; i < drafts; i++) encodeDraftStep(pass, plan, 2, { sequences: 1, blocks }, mode.sampling);
      if (rows > 0) encodeVerify(pass, full, { rows, blocks }, mode.sampling);
    };
    startAt(gpu, sequences, length, length);
    setTurns(gpu, sequences, new Map([[slot, (rows || draftedRows) - 1]]));
    await gpuIdle(gpu);
    const start = performance.now();
    // One submit each: as in rounds, the host encodes the next one while the device runs this.
    for (let i = 0; i < repeats; i++) submitPass(gpu, 'cost sample', encode);
    await gpuIdle(gpu);
    return (performance.now() - start) / repeats;
  };
  const repeats: number[] = [];
  const counts: number[] = [];
  const samples: number[][] = [];
  for (const kind of kinds) {
    // The first run of a pipeline may still compile. A longer context takes the same ones.
    if (kind.length === kinds[0]?.length) await time(kind, 1);
    const once = await time(kind, quick ? 1 : 2);
    repeats.push(Math.max(1, Math.min(maxRepeats, Math.ceil(sampleMs / Math.max(once, 0.01)))));
    // On a slow device one run is a sample, and there is no time for many.
    counts.push(quick ? Math.max(1, Math.min(sampleCount, Math.floor(slowKindMs / once))) : sampleCount);
    samples.push(quick && once >= sampleMs ? [once] : []);
  }
  for (let sample = 0; sample < sampleCount; sample++) {
    for (const [i, kind] of kinds.entries()) {
      const mine = samples[i] as number[];
      if (mine.length <= sample && sample < (counts[i] as number)) mine.push(await time(kind, repeats[i] as number));
    }
  }
  return samples;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const [low, high] = [sorted[(sorted.length - 1) >> 1], sorted[sorted.length >> 1]] as [number, number];
  return (low + high) / 2;
}
