import attentionFoldCode from '../../shaders/attention_fold.wgsl?raw';
import foldCode from '../../shaders/lib/fold.wgsl?raw';
import rowsCode from '../../shaders/lib/rows.wgsl?raw';
import windowCode from '../../shaders/lib/window.wgsl?raw';
import { createParams } from '../gpu/buffers.ts';
import type { Gpu } from '../gpu/device.ts';
import { createBindGroup, createPipeline, type Kernel, type Step } from '../gpu/kernel.ts';
import type { AttentionShape } from './rope_kv.ts';

export const attentionFold: Kernel = {
  name: 'attention_fold',
  code: rowsCode + windowCode + foldCode + attentionFoldCode,
  bindings: [
    { name: 'params', kind: 'uniform' },
    { name: 'rows', kind: 'read' },
    { name: 'partials', kind: 'read' },
    { name: 'output', kind: 'write' },
  ],
  overrides: ['HEAD_DIM'],
  params: [
    { name: 'headCount', type: 'u32' },
    { name: 'blocksPerSlot', type: 'u32' },
    { name: 'window', type: 'u32' },
  ],
};

export async function attentionFoldStep(
  gpu: Gpu,
  buffers: { rows: GPUBuffer; partials: GPUBuffer; output: GPUBuffer },
  { headCount, headDim, blocksPerSlot }: AttentionShape,
  { window }: { window: number | null },
): Promise<Step> {
  const pipeline = await createPipeline(gpu, attentionFold, { HEAD_DIM: headDim });
  const params = createParams(gpu, 'attention_fold params', [headCount, blocksPerSlot, window ?? 0]);
  return {
    label: 'attention_fold',
    bindGroup: createBindGroup(gpu, attentionFold, { params, ...buffers }),
    pipeline: () => pipeline,
    grid: (shape) => [Math.ceil((headCount * headDim) / 4 / 64), shape.rows, 1],
  };
}
