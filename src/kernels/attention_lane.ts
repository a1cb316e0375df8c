import attentionLaneCode from '../../shaders/attention_lane.wgsl?raw';
import halfCode from '../../shaders/lib/half.wgsl?raw';
import rowsCode from '../../shaders/lib/rows.wgsl?raw';
import scoresCode from '../../shaders/lib/scores.wgsl?raw';
import windowCode from '../../shaders/lib/window.wgsl?raw';
import type { Gpu } from '../gpu/device.ts';
import { createBindGroup, createPipeline, foldedGrid, type Kernel, type Step } from '../gpu/kernel.ts';
import { type AttentionBuffers, type AttentionOptions, attention, attentionParams } from './attention.ts';
import type { AttentionShape } from './rope_kv.ts';

export const attentionLane: Kernel = {
  name: 'attention_lane',
  code: rowsCode + halfCode + windowCode + scoresCode + attentionLaneCode,
  bindings: attention.bindings,
  overrides: ['HEAD_DIM'],
  params: attention.params,
};

/** Lanes of a workgroup: LANES of the shader. */
const lanes = 16;

/** As attentionStep, by lanes that share nothing. */
export async function attentionLaneStep(
  gpu: Gpu,
  buffers: AttentionBuffers & { partials: GPUBuffer },
  shape: AttentionShape,
  options: AttentionOptions,
): Promise<Step> {
  const pipeline = await createPipeline(gpu, attentionLane, { HEAD_DIM: shape.headDim });
  const params = attentionParams(gpu, shape, 1, options);
  return {
    label: 'attention_lane',
    bindGroup: createBindGroup(gpu, attentionLane, { params, ...buffers }),
    pipeline: () => pipeline,
    grid: ({ rows, blocks }) => foldedGrid(Math.ceil((rows * shape.headCount * blocks) / lanes)),
  };
}
