import argmaxLibCode from '../../shaders/lib/argmax.wgsl?raw';
import probabilityCode from '../../shaders/lib/probability.wgsl?raw';
import randomCode from '../../shaders/lib/random.wgsl?raw';
import stateCode from '../../shaders/lib/state.wgsl?raw';
import rejectCode from '../../shaders/reject.wgsl?raw';
import { createParams } from '../gpu/buffers.ts';
import type { Gpu } from '../gpu/device.ts';
import { createBindGroup, createPipeline, type Kernel, type Step } from '../gpu/kernel.ts';

export const reject: Kernel = {
  name: 'reject',
  code: stateCode + argmaxLibCode + randomCode + probabilityCode + rejectCode,
  bindings: [
    { name: 'params', kind: 'uniform' },
    { name: 'targetWarped', kind: 'read' },
    { name: 'targetDistributions', kind: 'read' },
    { name: 'draftWarped', kind: 'read' },
    { name: 'draftDistributions', kind: 'read' },
    { name: 'state', kind: 'write' },
  ],
  overrides: ['POINT_DRAFT'],
  params: [
    { name: 'targetVocabSize', type: 'u32' },
    { name: 'draftVocabSize', type: 'u32' },
  ],
};

/** The distributions of a round on both sides: (rows, V) f32 and (rows, 4) f32. */
export type RoundDistributions = {
  targetWarped: GPUBuffer;
  targetDistributions: GPUBuffer;
  draftWarped: GPUBuffer;
  draftDistributions: GPUBuffer;
};

export type RoundShape = {
  slots: number;
  targetVocabSize: number;
  draftVocabSize: number;
  /** Drafts were looked up, not sampled: each had the probability 1. */
  pointDraft?: boolean;
};

/** state.acceptedCount of each slot with a turn and without a seed */
export async function rejectStep(
  gpu: Gpu,
  buffers: RoundDistributions & { state: GPUBuffer },
  { slots, targetVocabSize, draftVocabSize, pointDraft = false }: RoundShape,
): Promise<Step> {
  const pipeline = await createPipeline(gpu, reject, { POINT_DRAFT: Number(pointDraft) });
  const fields = [targetVocabSize, draftVocabSize];
  const params = createParams(gpu, 'reject params', fields);
  return {
    label: 'reject',
    bindGroup: createBindGroup(gpu, reject, { params, ...buffers }),
    pipeline: () => pipeline,
    grid: () => [slots, 1, 1],
  };
}
