import type { NgramOptions } from '../draft_options.ts';
import { createStorage } from '../gpu/buffers.ts';
import type { Gpu } from '../gpu/device.ts';
import { countDispatches, encodeStep, type Pass, type PassShape, type Step } from '../gpu/kernel.ts';
import { acceptStep } from '../kernels/accept.ts';
import { logprobsStep } from '../kernels/logprobs.ts';
import { maxRows } from '../kernels/matmul_rows.ts';
import { ngramStep } from '../kernels/ngram.ts';
import { type RowsSource, rowsStep } from '../kernels/rows.ts';
import { encodeForward, type Forward } from '../model/forward.ts';
import { blockSize } from '../model/kv_cache.ts';
import { MAX_DRAFT_LENGTH } from '../options.ts';
import { LOGPROBS_BYTES } from './logprobs.ts';
import { RECORD_BYTES } from './record.ts';
import {
  createDraftDrawings,
  createDrawing,
  createRejection,
  createSampler,
  type Drawing,
  encodeSteps,
  type Rejection,
  type RoundSampling,
  type Sampler,
} from './sampler.ts';
import type { Sequences } from './sequence.ts';

/** Most rows of a verify pass, of all its sequences together: what its logits and distributions have room for. */
const maxRoundRows = 32;

/** Most drafts of each sequence in a round of so many. */
export function longestDraft(sequenceCount: number): number {
  return Math.min(MAX_DRAFT_LENGTH, Math.floor(maxRoundRows / sequenceCount) - 1);
}

/** Rows that a verify pass of a pair with so many slots needs room for. */
export const roundRows = (slots: number): number => Math.min(slots * maxRows, maxRoundRows);

/** Everything that a round dispatches, made at load. One plan serves all slots: whose turn it is stands in their states. */
export type RoundPlan = {
  target: Forward;
  draft: Forward | null;
  /** Lookup of drafts in the sequences' own tokens; null where a model drafts, or nothing does. */
  ngram: Step | null;
  /** The rows of each kind of pass. [slot] where a pass is of one sequence. */
  rows: {
    prefillTarget: Step[];
    prefillDraft: Step[];
    catchUp: Step[];
    draftFirst: Step | null;
    /** [i] = draft step i + 2 */
    draftNext: Step[];
    verify: Step;
    /** All drafts whether a lookup found them or not: for measuring. */
    verifyAll: Step;
  };
  targetSampler: Sampler;
  targetDrawing: Drawing;
  draftSampler: Sampler | null;
  /** [i] = draft step i + 1 */
  draftDrawings: Drawing[];
  rejection: Rejection;
  accept: Step;
  logprobs: Step;
  record: GPUBuffer; // (slots,) RoundRecord
  recordLogprobs: GPUBuffer; // (slots, 8, 41) u32
};

/** What of its requests decides which steps a round encodes. */
export type RoundMode = { sampling: RoundSampling; logprobs: boolean };

export async function createRoundPlan(
  gpu: Gpu,
  { target, draft }: { target: Forward; draft: Forward | null },
  { ngram = null, sequences }: { ngram?: NgramOptions | null; sequences: Sequences },
): Promise<RoundPlan> {
  const { state, history, historyStride, adjustments, vocabSize, slots } = sequences;
  const targetSampler = await createSampler(gpu, 'target', target, sequences, target.outputCapacity);
  const draftSampler = draft && (await createSampler(gpu, 'draft', draft, sequences, target.outputCapacity));
  const record = createStorage(gpu, 'records', slots * RECORD_BYTES);
  const recordLogprobs = createStorage(gpu, 'record logprobs', slots * LOGPROBS_BYTES);
  // Without a draft model no draft is taken from `sampled`, but the binding must be there.
  const { sampled } = draftSampler ?? targetSampler;
  const rowsOf = (forward: Forward, source: RowsSource): Promise<Step> => {
    const { rows, groupRows } = forward;
    return rowsStep(gpu, { state, history, sampled, rows }, { slots, historyStride, groupRows, source });
  };
  const forEachSlot = (forward: Forward | null, source: (slot: number, capacity: number) => RowsSource) =>
    Promise.all(
      forward === null
        ? []
        : Array.from({ length: slots }, (_, slot) => rowsOf(forward, source(slot, forward.rowCapacity))),
    );
  const laterSteps = draft === null ? [] : Array.from({ length: MAX_DRAFT_LENGTH - 1 }, (_, i) => i + 2);
  const pointDraft = ngram !== null;
  const rejection = await createRejection(gpu, target, targetSampler, draftSampler, sequences, { pointDraft });
  const { nextTokens } = rejection;
  const [rows, lookup, targetDrawing, draftDrawings, accept, logprobs] = await Promise.all([
    Promise.all([
      forEachSlot(target, (slot, capacity) => ({ mode: 'prefill', model: 'target', slot, capacity })),
      forEachSlot(draft, (slot, capacity) => ({ mode: 'prefill', model: 'draft', slot, capacity })),
      forEachSlot(draft, (slot, capacity) => ({ mode: 'catchUp', slot, capacity })),
      draft && rowsOf(draft, { mode: 'draftFirst' }),
      Promise.all(laterSteps.map((step) => rowsOf(draft as Forward, { mode: 'draftNext', step }))),
      rowsOf(target, { mode: ngram === null ? 'verify' : 'verifyFound' }),
      rowsOf(target, { mode: 'verify' }),
    ]),
    ngram && ngramStep(gpu, { history, state }, { ...ngram, slots, historyStride }),
    createDrawing(gpu, target, sequences, targetSampler),
    draft && draftSampler ? createDraftDrawings(gpu, draft, sequences, draftSampler) : [],
    acceptStep(
      gpu,
      { targetTokens: targetSampler.sampled, nextTokens, state, history, record, adjustments },
      { slots, historyStride, vocabSize },
    ),
    logprobsStep(gpu, { state, logits: target.logits, record, logprobs: recordLogprobs }, { slots, vocabSize }),
  ]);
  const [prefillTarget, prefillDraft, catchUp, draftFirst, draftNext, verify, verifyAll] = rows;
  return {
    target,
    draft,
    ngram: lookup,
    rows: { prefillTarget, prefillDraft, catchUp, draftFirst, draftNext, verify, verifyAll },
    targetSampler,
    targetDrawing,
    draftSampler,
    draftDrawings,
    rejection,
    accept,
    logprobs,
    record,
    recordLogprobs,
  };
}

/**
 * One round of speculative decoding (Leviathan et al. 2023): k draft steps, one target pass over k + 1 rows of each
 * sequence, accept. Every decision is the GPU's, so the next round can be encoded before this one has run. k = 0 decodes
 * plainly. A lookup may find fewer than k drafts, or none: the rows beyond them are skipped.
 * `draftLengths`: k of each sequence that has a turn, as `setTurns` wrote them. `lengthBound`: the host's upper bound on
 * their committed lengths.
 */
export function encodeRound(
  pass: Pass,
  plan: RoundPlan,
  draftLengths: readonly number[],
  lengthBound: number,
  mode: RoundMode,
): void {
  const longest = Math.max(...draftLengths);
  const blocks = blocksOf(plan.target, lengthBound + longest);
  if (plan.ngram !== null && longest > 0) encodeStep(pass, plan.ngram, { rows: 1, blocks });
  else
    for (let step = 1; step <= longest; step++) {
      const drafting = draftLengths.filter((k) => k >= step).length;
      encodeDraftStep(pass, plan, step, { sequences: drafting, blocks }, mode.sampling);
    }
  const rows = draftLengths.reduce((sum, k) => sum + k + 1, 0);
  encodeVerify(pass, plan, { rows, runs: draftLengths.length, blocks }, mode.sampling);
  encodeAccept(pass, plan, mode);
}

/** Commits what the target chose, and reports it. */
function encodeAccept(pass: Pass, { accept, logprobs }: RoundPlan, mode: RoundMode): void {
  const shape = { rows: 1, blocks: 0 };
  encodeStep(pass, accept, shape);
  if (mode.logprobs) encodeStep(pass, logprobs, shape);
}

/** [k] = dispatches of one greedy round of k drafts, of one sequence. */
export function dispatchesPerRound(plan: RoundPlan): number[] {
  const longest = plan.draft === null && plan.ngram === null ? 0 : MAX_DRAFT_LENGTH;
  return Array.from({ length: longest + 1 }, (_, k) => {
    const mode: RoundMode = { sampling: 'greedy', logprobs: false };
    return countDispatches((pass) => encodeRound(pass, plan, [k], 1, mode));
  });
}

/** Draft step 1 feeds the last two committed tokens of each sequence, each later step the draft before it. */
export function encodeDraftStep(
  pass: Pass,
  plan: RoundPlan,
  step: number,
  { sequences, blocks }: { sequences: number; blocks: number },
  sampling: RoundSampling,
): void {
  const { draft, draftSampler, draftDrawings, rows } = plan;
  // Of several sequences the rows that get logits lie together, and so the two of one apart; unless the others have ended.
  const firstRuns = sequences === 1 ? 1 : 2 * sequences;
  const shape: PassShape =
    step === 1
      ? { rows: 2 * sequences, runs: firstRuns, runRows: 2, blocks }
      : { rows: sequences, runs: sequences, blocks };
  encodeStep(pass, (step === 1 ? rows.draftFirst : rows.draftNext[step - 2]) as Step, shape);
  encodeForward(pass, draft as Forward, shape, sequences);
  const { highest, fold } = draftSampler as Sampler;
  const { distribution, draw } = draftDrawings[step - 1] as Drawing;
  const choice = sampling === 'greedy' || sampling === 'shaped' ? highest[sampling] : [...distribution, draw, fold];
  encodeSteps(pass, choice, { ...shape, rows: sequences });
}

/** The target's pass over the last committed token and the drafts of each sequence, and its choice after each. */
export function encodeVerify(pass: Pass, plan: RoundPlan, shape: PassShape, sampling: RoundSampling): void {
  encodeStep(pass, plan.rows.verify, shape);
  encodeForward(pass, plan.target, shape, shape.rows);
  encodeTargetChoice(pass, plan, shape, sampling);
}

function encodeTargetChoice(
  pass: Pass,
  { targetSampler: { highest, fold }, targetDrawing: { distribution, draw }, rejection }: RoundPlan,
  shape: PassShape,
  sampling: RoundSampling,
): void {
  if (sampling === 'greedy' || sampling === 'shaped') {
    encodeSteps(pass, highest[sampling], shape);
    return;
  }
  encodeSteps(pass, distribution, shape);
  if (sampling !== 'random') encodeSteps(pass, [draw, fold], shape);
  // Without a seed only one token is sampled: the one after the accepted drafts.
  if (sampling !== 'seeded') encodeSteps(pass, rejection.steps, shape);
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

/** Feeds one chunk of a slot's prompt to the target; the last one, in a turn of this slot's, yields the first token. */
export function encodePrefill(
  pass: Pass,
  plan: RoundPlan,
  slot: number,
  { start, rows }: PrefillChunk,
  isLast: boolean,
  mode: RoundMode,
): void {
  const shape = { rows, blocks: blocksOf(plan.target, start + rows) };
  encodeStep(pass, plan.rows.prefillTarget[slot] as Step, shape);
  encodeForward(pass, plan.target, shape, isLast ? 1 : 0, { tiled: rows > maxRows });
  if (!isLast) return;
  encodeTargetChoice(pass, plan, { ...shape, rows: 1 }, mode.sampling);
  encodeAccept(pass, plan, mode);
}

/** Feeds one chunk of a slot's prompt to the draft model. */
export function encodeDraftPrefill(pass: Pass, plan: RoundPlan, slot: number, { start, rows }: PrefillChunk): void {
  const shape = { rows, blocks: blocksOf(plan.target, start + rows) };
  encodeStep(pass, plan.rows.prefillDraft[slot] as Step, shape);
  encodeForward(pass, plan.draft as Forward, shape, 0, { tiled: rows > maxRows });
}

/** Feeds the draft model a slot's `gap` committed tokens that it was not fed, but for the last two. */
export function encodeCatchUp(pass: Pass, plan: RoundPlan, slot: number, gap: number, lengthBound: number): void {
  const draft = plan.draft as Forward;
  const blocks = blocksOf(plan.target, lengthBound);
  for (let fed = 0; fed < gap; fed += draft.rowCapacity) {
    const shape = { rows: Math.min(draft.rowCapacity, gap - fed), blocks };
    encodeStep(pass, plan.rows.catchUp[slot] as Step, shape);
    encodeForward(pass, draft, shape, 0, { tiled: shape.rows > maxRows });
  }
}

/** KV blocks that hold positions 0..length − 1, as far as the cache goes. */
export function blocksOf(forward: Forward, length: number): number {
  return Math.min(forward.kvCache.blocksPerSlot, Math.ceil(length / blockSize));
}
