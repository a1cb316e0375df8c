import argmaxCode from '../../shaders/argmax.wgsl?raw';
import argmaxLibCode from '../../shaders/lib/argmax.wgsl?raw';
import rowsCode from '../../shaders/lib/rows.wgsl?raw';
import stateCode from '../../shaders/lib/state.wgsl?raw';
import { createParams } from '../gpu/buffers.ts';
import type { Gpu } from '../gpu/device.ts';
import { createBindGroup, createPipeline, type Kernel, type Step } from '../gpu/kernel.ts';

export const argmax: Kernel = {
  name: 'argmax',
  code: rowsCode + stateCode + argmaxLibCode + argmaxCode,
  bindings: [
    { name: 'params', kind: 'uniform' },
    { name: 'rows', kind: 'read' },
    { name: 'logits', kind: 'read' },
    { name: 'candidates', kind: 'write' },
  ],
  overrides: [],
  params: [
    { name: 'vocabSize', type: 'u32' },
    { name: 'chunks', type: 'u32' },
  ],
};

/** Chunks of 1,024 logits, a candidate (8 bytes) each. */
export const chunksOf = (vocabSize: number): number => Math.ceil(vocabSize / 1024);

/** candidates (M, chunks) from logits (M, V) */
export async function argmaxStep(
  gpu: Gpu,
  buffers: { rows: GPUBuffer; logits: GPUBuffer; candidates: GPUBuffer },
  { vocabSize }: { vocabSize: number },
): Promise<Step> {
  const pipeline = await createPipeline(gpu, argmax, {});
  const params = createParams(gpu, 'argmax params', [vocabSize, chunksOf(vocabSize)]);
  return {
    label: 'argmax',
    bindGroup: createBindGroup(gpu, argmax, { params, ...buffers }),
    pipeline: () => pipeline,
    grid: (shape) => [chunksOf(vocabSize), shape.rows, 1],
  };
}
