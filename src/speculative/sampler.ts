import { createStorage } from '../gpu/buffers.ts';
import type { Gpu } from '../gpu/device.ts';
import { encodeStep, type Pass, type PassShape, type Step } from '../gpu/kernel.ts';
import { argmaxStep, chunksOf } from '../kernels/argmax.ts';
import { argmaxFoldStep } from '../kernels/argmax_fold.ts';
import { rejectStep } from '../kernels/reject.ts';
import { residualStep } from '../kernels/residual.ts';
import { sampleStep } from '../kernels/sample.ts';
import { thresholdStep } from '../kernels/threshold.ts';
import { type DistributionRows, warpStep } from '../kernels/warp.ts';
import type { Forward } from '../model/forward.ts';
import { MAX_DRAFT_LENGTH } from '../options.ts';
import type { ParsedSampling } from '../sampling_options.ts';
import { type SamplingMode, type Sequences, samplingModes } from './sequence.ts';

export const greedySampling: ParsedSampling = {
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  seed: null,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  logitBias: [],
  minNewTokens: 0,
};

/** How the tokens of a round are chosen: as its requests want, or `mixed` where those without a seed meet others. */
export type RoundSampling = SamplingMode | 'mixed';

/** The simplest way that serves all of them: each kernel leaves alone what a request does not ask for. */
export function roundSampling(modes: readonly SamplingMode[]): RoundSampling {
  const most = samplingModes[Math.max(0, ...modes.map((mode) => samplingModes.indexOf(mode)))] as SamplingMode;
  return most === 'random' && modes.some((mode) => mode !== most) ? 'mixed' : most;
}

/** One model's way from logits to tokens. */
export type Sampler = {
  vocabSize: number;
  sampled: GPUBuffer; // (outputs,) u32: a token per output row, or NO_TOKEN
  warped: GPUBuffer; // (distributions, V) f32
  distributions: GPUBuffer; // (distributions, 4) f32
  candidates: GPUBuffer; // (outputs, chunks) of (value bits, id) u32
  /** From logits to `sampled`, for all output rows of a pass. */
  highest: Record<'greedy' | 'shaped', Step[]>;
  fold: Step;
};

/** `distributionCapacity`: most rows of `warped`, which outlive a pass of the draft model. */
export async function createSampler(
  gpu: Gpu,
  label: string,
  { rows, logits, vocabSize, outputCapacity }: Forward,
  { state, adjustments, vocabSize: adjustedTokens }: Sequences,
  distributionCapacity: number,
): Promise<Sampler> {
  const warped = createStorage(gpu, `${label} warped`, distributionCapacity * vocabSize * 4);
  const distributions = createStorage(gpu, `${label} distributions`, distributionCapacity * 16);
  const candidates = createStorage(gpu, `${label} candidates`, outputCapacity * chunksOf(vocabSize) * 8);
  const sampled = createStorage(gpu, `${label} sampled`, outputCapacity * 4);
  const [warp, highest, highestWarped, fold] = await Promise.all([
    warpStep(gpu, { rows, state, logits, adjustments, warped }, { ...byOutputRow(vocabSize), adjustedTokens }),
    argmaxStep(gpu, { rows, logits, candidates }, { vocabSize }),
    argmaxStep(gpu, { rows, logits: warped, candidates }, { vocabSize }),
    argmaxFoldStep(gpu, { rows, candidates, sampled }, { vocabSize }),
  ]);
  return {
    vocabSize,
    sampled,
    warped,
    distributions,
    candidates,
    highest: { greedy: [highest, fold], shaped: [warp, highestWarped, fold] },
    fold,
  };
}

const byOutputRow = (vocabSize: number): DistributionRows => ({ vocabSize, firstRow: 0, rowStride: 1 });

/** Steps from logits to `warped` and `distributions`, and from there to candidates, for all output rows of a pass. */
export type Drawing = { distribution: Step[]; draw: Step };

export async function createDrawing(
  gpu: Gpu,
  { rows, logits, vocabSize }: Forward,
  { state, adjustments, vocabSize: adjustedTokens }: Sequences,
  { warped, distributions, candidates }: Sampler,
  place: Omit<DistributionRows, 'vocabSize'> = byOutputRow(vocabSize),
): Promise<Drawing> {
  const at = { ...place, vocabSize };
  const [warp, threshold, draw] = await Promise.all([
    warpStep(gpu, { rows, state, logits, adjustments, warped }, { ...at, adjustedTokens }),
    thresholdStep(gpu, { rows, state, warped, distributions }, at),
    sampleStep(gpu, { rows, state, warped, distributions, candidates }, at),
  ]);
  return { distribution: [warp, threshold], draw };
}

/** [i] = of draft step i + 1: the distribution stays in a row of its own, for the accept test. */
export function createDraftDrawings(
  gpu: Gpu,
  draft: Forward,
  sequences: Sequences,
  sampler: Sampler,
): Promise<Drawing[]> {
  return Promise.all(
    Array.from({ length: MAX_DRAFT_LENGTH }, (_, i) =>
      createDrawing(gpu, draft, sequences, sampler, { firstRow: i, rowStride: 0, ofDrafts: true }),
    ),
  );
}

/** Rejection sampling: how many drafts of a round are accepted, and the token after them. */
export type Rejection = { steps: Step[]; nextTokens: GPUBuffer /* (slots,) u32 */ };

export async function createRejection(
  gpu: Gpu,
  { rows, vocabSize }: Forward,
  target: Sampler,
  draft: Sampler | null,
  { state, slots }: Sequences,
  { pointDraft }: { pointDraft: boolean },
): Promise<Rejection> {
  const candidates = createStorage(gpu, 'next candidates', slots * chunksOf(vocabSize) * 8);
  const nextTokens = createStorage(gpu, 'next tokens', slots * 4);
  // Without a draft model nothing is read from the draft's side, but the bindings must be there.
  const { warped, distributions, vocabSize: draftVocabSize } = draft ?? target;
  const buffers = {
    state,
    targetWarped: target.warped,
    targetDistributions: target.distributions,
    draftWarped: warped,
    draftDistributions: distributions,
  };
  // Vocabularies of one tokenizer may be padded differently. A draft beyond the target's is never accepted.
  const shape = { slots, targetVocabSize: vocabSize, draftVocabSize, pointDraft };
  const [reject, residual, fold] = await Promise.all([
    rejectStep(gpu, buffers, shape),
    residualStep(gpu, { ...buffers, candidates }, shape),
    argmaxFoldStep(gpu, { rows, candidates, sampled: nextTokens }, { vocabSize }),
  ]);
  return { steps: [reject, residual, { ...fold, grid: () => [1, slots, 1] }], nextTokens };
}

export function encodeSteps(pass: Pass, steps: readonly Step[], shape: PassShape): void {
  for (const step of steps) encodeStep(pass, step, shape);
}
