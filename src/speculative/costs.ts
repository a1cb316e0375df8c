import type { Gpu } from '../gpu/device.ts';
import { gpuIdle, submitPass } from '../gpu/submit.ts';
import { maxRows } from '../kernels/matmul_rows.ts';
import type { CostReport } from '../types.ts';
import { blocksOf, encodeDraftStep, encodePrefill, encodeVerify, type RoundMode, type RoundPlan } from './round.ts';
import { greedySampling } from './sampler.ts';
import { type Sequences, startSequence } from './sequence.ts';

/** Committed length at which passes are timed: short enough for any context, long enough for attention to show. */
const timedLength = 48;
/** A sample repeats its pass within one submit until it takes this long, so that the sync does not count. */
const sampleMs = 20;
const maxRepeats = 64;
const mode: RoundMode = { sampling: 'greedy', logprobs: false };

/**
 * Measures c and v(1..8): wall time of passes repeated within one submit, all kinds interleaved, medians.
 * v(M) is a target pass over M rows against one row, c a draft step against a target step.
 */
export async function measureCosts(
  gpu: Gpu,
  plan: RoundPlan,
  sequences: Sequences,
  sampleCount: number,
): Promise<CostReport> {
  const length = Math.min(timedLength, sequences.contextLength - maxRows - 1);
  startSequence(gpu, sequences, 0, 0, {
    promptTokens: new Array<number>(length).fill(0),
    limit: sequences.contextLength,
    stopTokens: [],
    sampling: greedySampling,
    topLogprobs: 0,
  });
  for (let start = 0; start < length; start += plan.target.rowCapacity) {
    const chunk = { start, rows: Math.min(plan.target.rowCapacity, length - start) };
    submitPass(gpu, 'cost prefill', (pass) =>
      encodePrefill(pass, plan, chunk, { withDraft: plan.draft !== null, isLast: false }, mode),
    );
  }
  const blocks = blocksOf(plan.target, length + maxRows);
  const rowCounts = plan.rows.verify.map((_, k) => k + 1);
  const kinds: ((pass: GPUComputePassEncoder) => void)[] = rowCounts.map(
    (rows) => (pass) => encodeVerify(pass, plan, rows - 1, { rows, blocks }, mode.sampling),
  );
  if (plan.draft !== null) kinds.push((pass) => encodeDraftStep(pass, plan, 2, { rows: 1, blocks }, mode.sampling));

  const time = async (encode: (pass: GPUComputePassEncoder) => void, repeats: number): Promise<number> => {
    await gpuIdle(gpu);
    const start = performance.now();
    submitPass(gpu, 'cost sample', (pass) => {
      for (let i = 0; i < repeats; i++) encode(pass);
    });
    await gpuIdle(gpu);
    return (performance.now() - start) / repeats;
  };
  const repeats: number[] = [];
  for (const encode of kinds) {
    await time(encode, 1); // the first run of a pipeline may still compile
    const once = await time(encode, 2);
    repeats.push(Math.max(1, Math.min(maxRepeats, Math.ceil(sampleMs / Math.max(once, 0.01)))));
  }
  const samples: number[][] = kinds.map(() => []);
  for (let sample = 0; sample < sampleCount; sample++) {
    for (const [i, encode] of kinds.entries()) samples[i]?.push(await time(encode, repeats[i] as number));
  }
  const medians = samples.map((values) => median(values));
  const targetStepMs = medians[0] as number;
  const draftStepMs = plan.draft === null ? null : (medians[kinds.length - 1] as number);
  return {
    targetStepMs,
    draftStepMs,
    c: draftStepMs === null ? null : draftStepMs / targetStepMs,
    v: rowCounts.map((_, i) => (medians[i] as number) / targetStepMs),
    vSpread: rowCounts.map((_, i) => {
      const middle = medians[i] as number;
      return median((samples[i] as number[]).map((value) => Math.abs(value - middle))) / middle;
    }),
    sampleCount,
  };
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const [low, high] = [sorted[(sorted.length - 1) >> 1], sorted[sorted.length >> 1]] as [number, number];
  return (low + high) / 2;
}
