import type { NgramOptions } from '../draft_options.ts';
import { createStorage } from '../gpu/buffers.ts';
import type { Gpu } from '../gpu/device.ts';
import { encodeStep, type PassShape, type Step } from '../gpu/kernel.ts';
import { acceptStep } from '../kernels/accept.ts';
import { logprobsStep } from '../kernels/logprobs.ts';
import { ngramStep } from '../kernels/ngram.ts';
import { type RowsSource, rowsStep } from '../kernels/rows.ts';
import { encodeForward, type Forward } from '../model/forward.ts';
import { blockSize } from '../model/kv_cache.ts';
import { MAX_DRAFT_LENGTH } from '../options.ts';
import { LOGPROBS_BYTES } from './logprobs.ts';
import { RECORD_BYTES } from './record.ts';
import {
  createDraftSteps,
  createRejection,
  createSampler,
  encodeSteps,
  type Sampler,
  type SamplingMode,
} from './sampler.ts';
import type { Sequences } from './sequence.ts';

/** A pair, and what chooses tokens from its logits: shared by all slots, whose passes run one after another. */
export type Pair = {
  target: Forward;
  draft: Forward | null;
  targetSampler: Sampler;
  draftSampler: Sampler | null;
  /** [i] = draft step i + 1 in `random` mode */
  draftSteps: Step[][];
};

export async function createPair(
  gpu: Gpu,
  target: Forward,
  draft: Forward | null,
  sequences: Sequences,
): Promise<Pair> {
  const targetSampler = await createSampler(gpu, 'target', target, sequences);
  const draftSampler = draft && (await createSampler(gpu, 'draft', draft, sequences));
  const draftSteps = draft && draftSampler ? await createDraftSteps(gpu, draft, sequences, draftSampler) : [];
  return { target, draft, targetSampler, draftSampler, draftSteps };
}

/** Everything that a round of one slot dispatches, made at load. */
export type RoundPlan = Pair & {
  slot: number;
  /** [k] = lookup of k drafts in the sequence's own tokens; null where a model drafts, or nothing does. */
  ngram: Step[] | null;
  /** The rows of each kind of pass. */
  rows: {
    prefillTarget: Step;
    prefillDraft: Step | null;
    catchUp: Step | null;
    draftFirst: Step | null;
    /** [i] = draft step i + 2 */
    draftNext: Step[];
    /** [k] */
    verify: Step[];
    /** [k], all k drafts whether a lookup found them or not: for measuring. */
    verifyAll: Step[];
  };
  rejection: Step[];
  acceptEqual: Step;
  acceptCounted: Step;
  logprobs: Step;
  record: GPUBuffer; // RoundRecord
  recordLogprobs: GPUBuffer; // (8, 41) u32
};

/** What of a request decides which steps are encoded. */
export type RoundMode = { sampling: SamplingMode; logprobs: boolean };

export async function createRoundPlan(
  gpu: Gpu,
  pair: Pair,
  { ngram = null, sequences, slot }: { ngram?: NgramOptions | null; sequences: Sequences; slot: number },
): Promise<RoundPlan> {
  const { target, draft, targetSampler, draftSampler } = pair;
  const { state, history, historyStride, adjustments, vocabSize } = sequences;
  const record = createStorage(gpu, `record ${slot}`, RECORD_BYTES);
  const recordLogprobs = createStorage(gpu, `record ${slot} logprobs`, LOGPROBS_BYTES);
  // Without a draft model no draft is taken from `sampled`, but the binding must be there.
  const { sampled } = draftSampler ?? targetSampler;
  const rowsOf = (forward: Forward, source: RowsSource): Promise<Step> =>
    rowsStep(gpu, { state, history, sampled, rows: forward.rows }, { slot, historyStride, source });
  const prefill = (model: 'target' | 'draft', forward: Forward): RowsSource => ({
    mode: 'prefill',
    model,
    capacity: forward.rowCapacity,
  });
  const draftLengths = Array.from({ length: MAX_DRAFT_LENGTH + 1 }, (_, k) => k);
  const steps = draft === null ? [] : draftLengths.slice(2);
  const acceptOf = (rejection: boolean): Promise<Step> =>
    acceptStep(
      gpu,
      { targetTokens: targetSampler.sampled, state, history, record, adjustments },
      { slot, sequences: 1, historyStride, targetStride: 0, vocabSize, rejection },
    );
  const verifyMode = ngram === null ? 'verify' : 'verifyFound';
  const lookupOf = ({ shortest, longest }: NgramOptions, draftLength: number): Promise<Step> =>
    ngramStep(gpu, { history, state }, { slot, sequences: 1, historyStride, draftLength, shortest, longest });
  const [rows, lookups, rejection, acceptEqual, acceptCounted, logprobs] = await Promise.all([
    Promise.all([
      rowsOf(target, prefill('target', target)),
      draft && rowsOf(draft, prefill('draft', draft)),
      draft && rowsOf(draft, { mode: 'catchUp', capacity: draft.rowCapacity }),
      draft && rowsOf(draft, { mode: 'draftFirst' }),
      Promise.all(steps.map((step) => rowsOf(draft as Forward, { mode: 'draftNext', step }))),
      Promise.all(draftLengths.map((draftLength) => rowsOf(target, { mode: verifyMode, draftLength }))),
      Promise.all(draftLengths.map((draftLength) => rowsOf(target, { mode: 'verify', draftLength }))),
    ]),
    ngram && Promise.all(draftLengths.map((draftLength) => lookupOf(ngram, draftLength))),
    createRejection(gpu, targetSampler, draftSampler, sequences, { slot, pointDraft: ngram !== null }),
    acceptOf(false),
    acceptOf(true),
    logprobsStep(gpu, { state, logits: target.logits, record, logprobs: recordLogprobs }, { vocabSize }),
  ]);
  const [prefillTarget, prefillDraft, catchUp, draftFirst, draftNext, verify, verifyAll] = rows;
  return {
    ...pair,
    slot,
    ngram: lookups,
    rows: { prefillTarget, prefillDraft, catchUp, draftFirst, draftNext, verify, verifyAll },
    rejection,
    acceptEqual,
    acceptCounted,
    logprobs,
    record,
    recordLogprobs,
  };
}

/**
 * One round of speculative decoding (Leviathan et al. 2023): k draft steps, one target pass over k + 1 rows, accept.
 * Every decision is the GPU's, so the next round can be encoded before this one has run. k = 0 decodes plainly.
 * A lookup may find fewer than k drafts, or none: the rows beyond them are skipped.
 * `lengthBound`: the host's upper bound on the committed length.
 */
export function encodeRound(
  pass: GPUComputePassEncoder,
  plan: RoundPlan,
  k: number,
  lengthBound: number,
  mode: RoundMode,
): void {
  const shape = (rows: number): PassShape => ({ rows, blocks: blocksOf(plan.target, lengthBound + k) });
  if (plan.ngram !== null && k > 0) encodeStep(pass, plan.ngram[k] as Step, shape(1));
  else
    for (let step = 1; step <= k; step++) encodeDraftStep(pass, plan, step, shape(step === 1 ? 2 : 1), mode.sampling);
  encodeVerify(pass, plan, k, shape(k + 1), mode.sampling);
  encodeAccept(pass, plan, shape(k + 1), mode);
}

/** Commits what the target chose, and reports it. */
function encodeAccept(pass: GPUComputePassEncoder, plan: RoundPlan, shape: PassShape, mode: RoundMode): void {
  encodeStep(pass, mode.sampling === 'random' ? plan.acceptCounted : plan.acceptEqual, shape);
  if (mode.logprobs) encodeStep(pass, plan.logprobs, shape);
}

/** [k] = dispatches of one greedy round of k drafts, counted by encoding it for nobody. */
export function dispatchesPerRound(plan: RoundPlan): number[] {
  const draftLengths = plan.draft === null && plan.ngram === null ? [0] : [...plan.rows.verify.keys()];
  return draftLengths.map((k) => {
    let count = 0;
    const nobody = { setPipeline() {}, setBindGroup() {}, dispatchWorkgroups: () => (count += 1) };
    encodeRound(nobody as unknown as GPUComputePassEncoder, plan, k, 1, { sampling: 'greedy', logprobs: false });
    return count;
  });
}

/** Draft step 1 feeds the last two committed tokens, each later step the draft before it. */
export function encodeDraftStep(
  pass: GPUComputePassEncoder,
  plan: RoundPlan,
  step: number,
  shape: PassShape,
  sampling: SamplingMode,
): void {
  const rows = step === 1 ? plan.rows.draftFirst : plan.rows.draftNext[step - 2];
  encodeStep(pass, rows as Step, shape);
  encodeForward(pass, plan.draft as Forward, shape, 1);
  const choice = sampling === 'random' ? plan.draftSteps[step - 1] : plan.draftSampler?.steps[sampling];
  encodeSteps(pass, choice as Step[], { ...shape, rows: 1 });
}

/** The target's pass over the last committed token and k drafts, and its choice after each. */
export function encodeVerify(
  pass: GPUComputePassEncoder,
  plan: RoundPlan,
  k: number,
  shape: PassShape,
  sampling: SamplingMode,
): void {
  encodeStep(pass, plan.rows.verify[k] as Step, shape);
  encodeForward(pass, plan.target, shape, k + 1);
  encodeTargetChoice(pass, plan, shape, sampling);
}

function encodeTargetChoice(
  pass: GPUComputePassEncoder,
  { targetSampler, rejection }: RoundPlan,
  shape: PassShape,
  sampling: SamplingMode,
): void {
  if (sampling !== 'random') {
    encodeSteps(pass, targetSampler.steps[sampling], shape);
    return;
  }
  encodeSteps(pass, targetSampler.distribution, shape);
  // Of all rows only one token is sampled: the one after the accepted drafts.
  encodeSteps(pass, [...rejection, targetSampler.fold], { ...shape, rows: 1 });
}

/** Where a chunk of the prompt starts, and how many tokens it has. */
export type PrefillChunk = { start: number; rows: number };

/** Of the prompt tokens from `from` on: those before it are in the cache already. */
export function prefillChunks(from: number, promptLength: number, rowCapacity: number): PrefillChunk[] {
  const chunks: PrefillChunk[] = [];
  for (let start = from; start < promptLength; start += rowCapacity) {
    chunks.push({ start, rows: Math.min(rowCapacity, promptLength - start) });
  }
  return chunks;
}

/** Feeds one chunk of the prompt to the target; the last one yields the first token. */
export function encodePrefill(
  pass: GPUComputePassEncoder,
  plan: RoundPlan,
  { start, rows }: PrefillChunk,
  isLast: boolean,
  mode: RoundMode,
): void {
  const shape = { rows, blocks: blocksOf(plan.target, start + rows) };
  encodeStep(pass, plan.rows.prefillTarget, shape);
  encodeForward(pass, plan.target, shape, isLast ? 1 : 0);
  if (!isLast) return;
  const output = { ...shape, rows: 1 };
  encodeTargetChoice(pass, plan, output, mode.sampling);
  encodeAccept(pass, plan, output, mode);
}

/** Feeds one chunk of the prompt to the draft model. */
export function encodeDraftPrefill(pass: GPUComputePassEncoder, plan: RoundPlan, { start, rows }: PrefillChunk): void {
  const shape = { rows, blocks: blocksOf(plan.target, start + rows) };
  encodeStep(pass, plan.rows.prefillDraft as Step, shape);
  encodeForward(pass, plan.draft as Forward, shape, 0);
}

/** Feeds the draft model the `gap` committed tokens that it was not fed, but for the last two. */
export function encodeCatchUp(pass: GPUComputePassEncoder, plan: RoundPlan, gap: number, lengthBound: number): void {
  const draft = plan.draft as Forward;
  const blocks = blocksOf(plan.target, lengthBound);
  for (let fed = 0; fed < gap; fed += draft.rowCapacity) {
    const shape = { rows: Math.min(draft.rowCapacity, gap - fed), blocks };
    encodeStep(pass, plan.rows.catchUp as Step, shape);
    encodeForward(pass, draft, shape, 0);
  }
}

/** KV blocks that hold positions 0..length − 1, as far as the cache goes. */
export function blocksOf(forward: Forward, length: number): number {
  return Math.min(forward.kvCache.blocksPerSlot, Math.ceil(length / blockSize));
}
