import argmaxLibCode from '../../shaders/lib/argmax.wgsl?raw';
import reduceWideCode from '../../shaders/lib/reduce_wide.wgsl?raw';
import rowsCode from '../../shaders/lib/rows.wgsl?raw';
import stateCode from '../../shaders/lib/state.wgsl?raw';
import thresholdCode from '../../shaders/threshold.wgsl?raw';
import { createParams } from '../gpu/buffers.ts';
import type { Gpu } from '../gpu/device.ts';
import { createBindGroup, createPipeline, type Kernel, type Step } from '../gpu/kernel.ts';
import type { DistributionRows } from './warp.ts';

export const threshold: Kernel = {
  name: 'threshold',
  code: rowsCode + stateCode + argmaxLibCode + reduceWideCode + thresholdCode,
  bindings: [
    { name: 'params', kind: 'uniform' },
    { name: 'rows', kind: 'read' },
    { name: 'state', kind: 'read' },
    { name: 'warped', kind: 'read' },
    { name: 'distributions', kind: 'write' },
  ],
  overrides: [],
  params: [
    { name: 'vocabSize', type: 'u32' },
    { name: 'firstRow', type: 'u32' },
    { name: 'rowStride', type: 'u32' },
    { name: 'ofDrafts', type: 'u32' },
  ],
};

/** distributions (distributions, 4) f32 from warped (distributions, V) */
export async function thresholdStep(
  gpu: Gpu,
  buffers: { rows: GPUBuffer; state: GPUBuffer; warped: GPUBuffer; distributions: GPUBuffer },
  { vocabSize, firstRow, rowStride, ofDrafts = false }: DistributionRows,
): Promise<Step> {
  const pipeline = await createPipeline(gpu, threshold, {});
  const params = createParams(gpu, 'threshold params', [vocabSize, firstRow, rowStride, Number(ofDrafts)]);
  return {
    label: 'threshold',
    bindGroup: createBindGroup(gpu, threshold, { params, ...buffers }),
    pipeline: () => pipeline,
    grid: (shape) => [1, shape.rows, 1],
  };
}
