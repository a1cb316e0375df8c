import argmaxLibCode from '../../shaders/lib/argmax.wgsl?raw';
import probabilityCode from '../../shaders/lib/probability.wgsl?raw';
import randomCode from '../../shaders/lib/random.wgsl?raw';
import stateCode from '../../shaders/lib/state.wgsl?raw';
import residualCode from '../../shaders/residual.wgsl?raw';
import { createParams } from '../gpu/buffers.ts';
import type { Gpu } from '../gpu/device.ts';
import { createBindGroup, createPipeline, type Kernel, type Step } from '../gpu/kernel.ts';
import { chunksOf } from './argmax.ts';
import type { RoundDistributions, RoundShape } from './reject.ts';

export const residual: Kernel = {
  name: 'residual',
  code: stateCode + argmaxLibCode + randomCode + probabilityCode + residualCode,
  bindings: [
    { name: 'params', kind: 'uniform' },
    { name: 'state', kind: 'read' },
    { name: 'targetWarped', kind: 'read' },
    { name: 'targetDistributions', kind: 'read' },
    { name: 'draftWarped', kind: 'read' },
    { name: 'draftDistributions', kind: 'read' },
    { name: 'candidates', kind: 'write' },
  ],
  overrides: ['POINT_DRAFT'],
  params: [
    { name: 'targetVocabSize', type: 'u32' },
    { name: 'draftVocabSize', type: 'u32' },
    { name: 'chunks', type: 'u32' },
  ],
};

/** candidates (slots, chunks) of the token after the accepted drafts */
export async function residualStep(
  gpu: Gpu,
  buffers: RoundDistributions & { state: GPUBuffer; candidates: GPUBuffer },
  { slots, targetVocabSize, draftVocabSize, pointDraft = false }: RoundShape,
): Promise<Step> {
  const pipeline = await createPipeline(gpu, residual, { POINT_DRAFT: Number(pointDraft) });
  const chunks = chunksOf(targetVocabSize);
  const fields = [targetVocabSize, draftVocabSize, chunks];
  const params = createParams(gpu, 'residual params', fields);
  return {
    label: 'residual',
    bindGroup: createBindGroup(gpu, residual, { params, ...buffers }),
    pipeline: () => pipeline,
    grid: () => [chunks, slots, 1],
  };
}
