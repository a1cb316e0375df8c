import rowsCode from '../../shaders/lib/rows.wgsl?raw';
import stateCode from '../../shaders/lib/state.wgsl?raw';
import warpCode from '../../shaders/warp.wgsl?raw';
import { createParams } from '../gpu/buffers.ts';
import type { Gpu } from '../gpu/device.ts';
import { createBindGroup, createPipeline, type Kernel, type Step } from '../gpu/kernel.ts';
import { chunksOf } from './argmax.ts';

export const warp: Kernel = {
  name: 'warp',
  code: rowsCode + stateCode + warpCode,
  bindings: [
    { name: 'params', kind: 'uniform' },
    { name: 'rows', kind: 'read' },
    { name: 'state', kind: 'read' },
    { name: 'logits', kind: 'read' },
    { name: 'adjustments', kind: 'read' },
    { name: 'warped', kind: 'write' },
  ],
  overrides: [],
  params: [
    { name: 'vocabSize', type: 'u32' },
    { name: 'firstRow', type: 'u32' },
    { name: 'rowStride', type: 'u32' },
    { name: 'ofDrafts', type: 'u32' },
    { name: 'adjustedTokens', type: 'u32' },
  ],
};

/**
 * Which distributions the output rows of a pass are: row m is firstRow + m · rowStride; `ofDrafts`, it is its sequence's
 * draft firstRow.
 */
export type DistributionRows = { vocabSize: number; firstRow: number; rowStride: number; ofDrafts?: boolean };

/** warped (distributions, V) from logits (M, V); adjustments (slots, adjustedTokens), whatever V is. */
export async function warpStep(
  gpu: Gpu,
  buffers: { rows: GPUBuffer; state: GPUBuffer; logits: GPUBuffer; adjustments: GPUBuffer; warped: GPUBuffer },
  { vocabSize, firstRow, rowStride, ofDrafts = false, adjustedTokens }: DistributionRows & { adjustedTokens: number },
): Promise<Step> {
  const pipeline = await createPipeline(gpu, warp, {});
  const params = createParams(gpu, 'warp params', [vocabSize, firstRow, rowStride, Number(ofDrafts), adjustedTokens]);
  return {
    label: 'warp',
    bindGroup: createBindGroup(gpu, warp, { params, ...buffers }),
    pipeline: () => pipeline,
    grid: (shape) => [chunksOf(vocabSize), shape.rows, 1],
  };
}
