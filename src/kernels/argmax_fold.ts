import argmaxFoldCode from '../../shaders/argmax_fold.wgsl?raw';
import argmaxLibCode from '../../shaders/lib/argmax.wgsl?raw';
import rowsCode from '../../shaders/lib/rows.wgsl?raw';
import stateCode from '../../shaders/lib/state.wgsl?raw';
import { createParams } from '../gpu/buffers.ts';
import type { Gpu } from '../gpu/device.ts';
import { createBindGroup, createPipeline, type Kernel, type Step } from '../gpu/kernel.ts';
import { chunksOf } from './argmax.ts';

export const argmaxFold: Kernel = {
  name: 'argmax_fold',
  code: rowsCode + stateCode + argmaxLibCode + argmaxFoldCode,
  bindings: [
    { name: 'params', kind: 'uniform' },
    { name: 'rows', kind: 'read' },
    { name: 'candidates', kind: 'read' },
    { name: 'sampled', kind: 'write' },
  ],
  overrides: [],
  params: [{ name: 'chunks', type: 'u32' }],
};

/** sampled (M,) from candidates (M, chunks) */
export async function argmaxFoldStep(
  gpu: Gpu,
  buffers: { rows: GPUBuffer; candidates: GPUBuffer; sampled: GPUBuffer },
  { vocabSize }: { vocabSize: number },
): Promise<Step> {
  const pipeline = await createPipeline(gpu, argmaxFold, {});
  const params = createParams(gpu, 'argmax_fold params', [chunksOf(vocabSize)]);
  return {
    label: 'argmax_fold',
    bindGroup: createBindGroup(gpu, argmaxFold, { params, ...buffers }),
    pipeline: () => pipeline,
    grid: (shape) => [1, shape.rows, 1],
  };
}
