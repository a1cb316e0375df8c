import type { Gpu } from '../gpu/device.ts';
import type { Pass } from '../gpu/kernel.ts';
import { gpuIdle, submitPass } from '../gpu/submit.ts';
import { maxRows, rowVariants } from '../kernels/matmul_rows.ts';
import { MAX_DRAFT_LENGTH } from '../options.ts';
import type { CostReport } from '../types.ts';
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

/** Committed length at which passes are timed: short enough for any context, long enough for attention to show. */
const timedLength = 48;
/** A sample repeats its pass until it takes this long, and waits once, so that the sync does not count. */
const sampleMs = 20;
const maxRepeats = 64;
const mode: RoundMode = { sampling: 'greedy', logprobs: false };

/** Draft steps in front of a verify pass whose time says what they add to a round. */
const timedDrafts = 4;

/** Passes are timed in this one. */
const slot = 0;

/** Row counts that are timed at load: those of the few-rows pipelines. Others run, and cost, as the next of these. */
const quickRowCounts = rowVariants;

/**
 * Measures c and v(1..8): wall time of passes submitted one behind the other, all kinds interleaved, medians.
 * v(M) is a target pass over M rows against one row, c what a draft step adds to a submit against a target step. What a
 * submit costs by itself is in the target's step, as it is in a round, however many drafts that has.
 * `quick`: what loading an engine has time for; v of 1 row alone where nothing drafts.
 */
export async function measureCosts(
  gpu: Gpu,
  plan: RoundPlan,
  sequences: Sequences,
  { sampleCount, quick = false }: { sampleCount: number; quick?: boolean },
): Promise<CostReport> {
  const length = Math.max(1, Math.min(timedLength, sequences.contextLength - maxRows - 1));
  startSequence(gpu, sequences, slot, 0, {
    promptTokens: new Array<number>(length).fill(0),
    emittedTokens: [],
    targetFed: 0,
    draftFed: 0,
    limit: sequences.contextLength,
    stopTokens: [],
    sampling: greedySampling,
    logprobs: false,
    topLogprobs: 0,
  });
  for (const chunk of prefillChunks(0, length, plan.target.rowCapacity)) {
    submitPass(gpu, 'cost prefill', (pass) => {
      if (plan.draft !== null) encodeDraftPrefill(pass, plan, slot, chunk);
      encodePrefill(pass, plan, slot, chunk, false, mode);
    });
  }
  const blocks = blocksOf(plan.target, length + maxRows);
  const allRowCounts = Array.from({ length: maxRows }, (_, k) => k + 1);
  const speculates = plan.draft !== null || plan.ngram !== null;
  const rowCounts = !quick ? allRowCounts : speculates ? quickRowCounts : [1];
  // A lookup would find no drafts in this text, and a pass without drafts is one row.
  const full: RoundPlan = { ...plan, rows: { ...plan.rows, verify: plan.rows.verifyAll } };
  type Kind = { draftLength: number; encode: (pass: Pass) => void };
  const kinds = rowCounts.map(
    (rows): Kind => ({
      draftLength: rows - 1,
      encode: (pass) => encodeVerify(pass, full, { rows, blocks }, mode.sampling),
    }),
  );
  if (plan.draft !== null) {
    kinds.push({
      draftLength: MAX_DRAFT_LENGTH,
      encode: (pass) => {
        for (let i = 0; i < timedDrafts; i++) {
          encodeDraftStep(pass, plan, 2, { sequences: 1, blocks }, mode.sampling);
        }
        encodeVerify(pass, full, { rows: maxRows, blocks }, mode.sampling);
      },
    });
  }

  const time = async ({ draftLength, encode }: Kind, repeats: number): Promise<number> => {
    setTurns(gpu, sequences, new Map([[slot, draftLength]]));
    await gpuIdle(gpu);
    const start = performance.now();
    // One submit each: as in rounds, the host encodes the next one while the device runs this.
    for (let i = 0; i < repeats; i++) submitPass(gpu, 'cost sample', encode);
    await gpuIdle(gpu);
    return (performance.now() - start) / repeats;
  };
  const repeats: number[] = [];
  const samples: number[][] = [];
  for (const kind of kinds) {
    await time(kind, 1); // the first run of a pipeline may still compile
    const once = await time(kind, quick ? 1 : 2);
    repeats.push(Math.max(1, Math.min(maxRepeats, Math.ceil(sampleMs / Math.max(once, 0.01)))));
    // On a slow device one run is a sample, and there is no time for more.
    if (quick && once >= sampleMs) samples.push([once]);
    else samples.push([]);
  }
  for (let sample = 0; sample < sampleCount; sample++) {
    for (const [i, kind] of kinds.entries()) {
      const mine = samples[i] as number[];
      if (mine.length <= sample) mine.push(await time(kind, repeats[i] as number));
    }
  }
  const medians = samples.map((values) => median(values));
  const timedAs = (rows: number): number => rowCounts.findIndex((count) => count >= rows);
  const spreads = samples.map((values, i) => {
    const middle = medians[i] as number;
    return median(values.map((value) => Math.abs(value - middle))) / middle;
  });
  const targetStepMs = medians[0] as number;
  const reported = allRowCounts.filter((rows) => rows <= (rowCounts.at(-1) as number));
  const [longest = 0, drafted = 0] = medians.slice(rowCounts.length - 1);
  // Noise must not make drafts free, or a gain.
  const draftStepMs = plan.draft === null ? null : Math.max(drafted - longest, 0.01 * targetStepMs) / timedDrafts;
  return {
    targetStepMs,
    draftStepMs,
    c: draftStepMs === null ? null : draftStepMs / targetStepMs,
    v: reported.map((rows) => (medians[timedAs(rows)] as number) / targetStepMs),
    vSpread: reported.map((rows) => spreads[timedAs(rows)] as number),
    sampleCount,
  };
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const [low, high] = [sorted[(sorted.length - 1) >> 1], sorted[sorted.length >> 1]] as [number, number];
  return (low + high) / 2;
}
