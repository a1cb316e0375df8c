import { createStorage } from '../gpu/buffers.ts';
import type { Gpu } from '../gpu/device.ts';
import { encodeStep, type PassShape, type Step } from '../gpu/kernel.ts';
import { argmaxStep, chunksOf } from '../kernels/argmax.ts';
import { argmaxFoldStep } from '../kernels/argmax_fold.ts';
import { maxRows } from '../kernels/matmul_rows.ts';
import { rejectStep } from '../kernels/reject.ts';
import { residualStep } from '../kernels/residual.ts';
import { sampleStep } from '../kernels/sample.ts';
import { thresholdStep } from '../kernels/threshold.ts';
import { warpStep } from '../kernels/warp.ts';
import type { Forward } from '../model/forward.ts';
import { MAX_DRAFT_LENGTH } from '../options.ts';
import type { ParsedSampling } from '../sampling_options.ts';
import { hasAdjustments, type Sequences } from './sequence.ts';

/**
 * How tokens are chosen from logits. `greedy`: the highest logit. `shaped`: the highest after penalties, bias and
 * minNewTokens. `seeded`: sampled with noise that draft and target share. `random`: each with its own noise, drafts
 * accepted by Algorithm 1 of Leviathan et al. 2023.
 */
export type SamplingMode = 'greedy' | 'shaped' | 'seeded' | 'random';

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

export function samplingMode(sampling: ParsedSampling): SamplingMode {
  if (sampling.temperature > 0) return sampling.seed === null ? 'random' : 'seeded';
  return hasAdjustments(sampling) || sampling.minNewTokens > 0 ? 'shaped' : 'greedy';
}

/** One model's way from logits to tokens. */
export type Sampler = {
  vocabSize: number;
  sampled: GPUBuffer; // (8,) u32: a token per output row, or NO_TOKEN
  warped: GPUBuffer; // (8, V) f32
  distributions: GPUBuffer; // (8, 4) f32
  candidates: GPUBuffer; // (8, chunks) of (value bits, id) u32
  /** From logits to `sampled`, for all output rows of a pass. */
  steps: Record<'greedy' | 'shaped' | 'seeded', Step[]>;
  /** From logits to `warped` and `distributions`, for all output rows of a pass. */
  distribution: Step[];
  fold: Step;
};

export async function createSampler(
  gpu: Gpu,
  label: string,
  { rows, logits, vocabSize }: Forward,
  { state, adjustments, vocabSize: adjustedTokens }: Sequences,
): Promise<Sampler> {
  const warped = createStorage(gpu, `${label} warped`, maxRows * vocabSize * 4);
  const distributions = createStorage(gpu, `${label} distributions`, maxRows * 16);
  const candidates = createStorage(gpu, `${label} candidates`, maxRows * chunksOf(vocabSize) * 8);
  const sampled = createStorage(gpu, `${label} sampled`, maxRows * 4);
  const firstRows = { vocabSize, firstRow: 0, rowStride: 1 };
  const [warp, threshold, highest, highestWarped, shared, fold] = await Promise.all([
    warpStep(gpu, { rows, state, logits, adjustments, warped }, { ...firstRows, adjustedTokens }),
    thresholdStep(gpu, { rows, state, warped, distributions }, firstRows),
    argmaxStep(gpu, { rows, logits, candidates }, { vocabSize }),
    argmaxStep(gpu, { rows, logits: warped, candidates }, { vocabSize }),
    sampleStep(gpu, { rows, state, warped, distributions, candidates }, { ...firstRows, noise: 'shared' }),
    argmaxFoldStep(gpu, { rows, candidates, sampled }, { vocabSize }),
  ]);
  return {
    vocabSize,
    sampled,
    warped,
    distributions,
    candidates,
    steps: {
      greedy: [highest, fold],
      shaped: [warp, highestWarped, fold],
      seeded: [warp, threshold, shared, fold],
    },
    distribution: [warp, threshold],
    fold,
  };
}

/** [i] = steps of draft step i + 1 in `random` mode: the distribution stays in row i for the accept test. */
export function createDraftSteps(
  gpu: Gpu,
  { rows, logits, vocabSize }: Forward,
  { state, adjustments, vocabSize: adjustedTokens }: Sequences,
  { warped, distributions, candidates, fold }: Sampler,
): Promise<Step[][]> {
  const stepOf = async (firstRow: number): Promise<Step[]> => {
    const row = { vocabSize, firstRow, rowStride: 1 };
    return [
      ...(await Promise.all([
        warpStep(gpu, { rows, state, logits, adjustments, warped }, { ...row, adjustedTokens }),
        thresholdStep(gpu, { rows, state, warped, distributions }, row),
        sampleStep(gpu, { rows, state, warped, distributions, candidates }, { ...row, noise: 'draft' }),
      ])),
      fold,
    ];
  };
  return Promise.all(Array.from({ length: MAX_DRAFT_LENGTH }, (_, i) => stepOf(i)));
}

/** Rejection sampling of one slot's round: how many drafts are accepted, and candidates of the token after them. */
export async function createRejection(
  gpu: Gpu,
  target: Sampler,
  draft: Sampler | null,
  { state }: Sequences,
  { slot, pointDraft }: { slot: number; pointDraft: boolean },
): Promise<Step[]> {
  // Without a draft model nothing is read from the draft's side, but the bindings must be there.
  const { warped, distributions, vocabSize: draftVocabSize } = draft ?? target;
  const buffers = {
    state,
    targetWarped: target.warped,
    targetDistributions: target.distributions,
    draftWarped: warped,
    draftDistributions: distributions,
  };
  const shape = {
    slot,
    sequences: 1,
    targetVocabSize: target.vocabSize,
    // Vocabularies of one tokenizer may be padded differently. A draft beyond the target's is never accepted.
    draftVocabSize,
    targetStride: 0,
    draftStride: 0,
    pointDraft,
  };
  return Promise.all([
    rejectStep(gpu, buffers, shape),
    residualStep(gpu, { ...buffers, candidates: target.candidates }, shape),
  ]);
}

export function encodeSteps(pass: GPUComputePassEncoder, steps: readonly Step[], shape: PassShape): void {
  for (const step of steps) encodeStep(pass, step, shape);
}
