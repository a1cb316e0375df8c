import argmaxLibCode from '../../shaders/lib/argmax.wgsl?raw';
import randomCode from '../../shaders/lib/random.wgsl?raw';
import rowsCode from '../../shaders/lib/rows.wgsl?raw';
import stateCode from '../../shaders/lib/state.wgsl?raw';
import sampleCode from '../../shaders/sample.wgsl?raw';
import { createParams } from '../gpu/buffers.ts';
import type { Gpu } from '../gpu/device.ts';
import { createBindGroup, createPipeline, type Kernel, type Step } from '../gpu/kernel.ts';
import { chunksOf } from './argmax.ts';
import type { DistributionRows } from './warp.ts';

export const sample: Kernel = {
  name: 'sample',
  code: rowsCode + stateCode + argmaxLibCode + randomCode + sampleCode,
  bindings: [
    { name: 'params', kind: 'uniform' },
    { name: 'rows', kind: 'read' },
    { name: 'state', kind: 'read' },
    { name: 'warped', kind: 'read' },
    { name: 'distributions', kind: 'read' },
    { name: 'candidates', kind: 'write' },
  ],
  overrides: [],
  params: [
    { name: 'vocabSize', type: 'u32' },
    { name: 'chunks', type: 'u32' },
    { name: 'firstRow', type: 'u32' },
    { name: 'rowStride', type: 'u32' },
    { name: 'ofDrafts', type: 'u32' },
  ],
};

/** candidates (M, chunks) from warped (distributions, V) */
export async function sampleStep(
  gpu: Gpu,
  buffers: {
    rows: GPUBuffer;
    state: GPUBuffer;
    warped: GPUBuffer;
    distributions: GPUBuffer;
    candidates: GPUBuffer;
  },
  { vocabSize, firstRow, rowStride, ofDrafts = false }: DistributionRows,
): Promise<Step> {
  const pipeline = await createPipeline(gpu, sample, {});
  const params = createParams(gpu, 'sample params', [
    vocabSize,
    chunksOf(vocabSize),
    firstRow,
    rowStride,
    Number(ofDrafts),
  ]);
  return {
    label: 'sample',
    bindGroup: createBindGroup(gpu, sample, { params, ...buffers }),
    pipeline: () => pipeline,
    grid: (shape) => [chunksOf(vocabSize), shape.rows, 1],
  };
}
