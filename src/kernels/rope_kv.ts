import halfCode from '../../shaders/lib/half.wgsl?raw';
import rowsCode from '../../shaders/lib/rows.wgsl?raw';
import ropeKvCode from '../../shaders/rope_kv.wgsl?raw';
import { createParams } from '../gpu/buffers.ts';
import type { Gpu } from '../gpu/device.ts';
import { createBindGroup, createPipeline, type Kernel, type Step } from '../gpu/kernel.ts';

export const ropeKv: Kernel = {
  name: 'rope_kv',
  code: rowsCode + halfCode + ropeKvCode,
  bindings: [
    { name: 'params', kind: 'uniform' },
    { name: 'rows', kind: 'read' },
    { name: 'qkv', kind: 'read' },
    { name: 'rotation', kind: 'read' },
    { name: 'blockTable', kind: 'read' },
    { name: 'headNorm', kind: 'read' },
    { name: 'query', kind: 'write' },
    { name: 'keys', kind: 'write' },
    { name: 'values', kind: 'write' },
  ],
  overrides: ['QK_NORM'],
  params: [
    { name: 'headCount', type: 'u32' },
    { name: 'kvHeadCount', type: 'u32' },
    { name: 'headDim', type: 'u32' },
    { name: 'rotaryDim', type: 'u32' },
    { name: 'blocksPerSlot', type: 'u32' },
    { name: 'epsilon', type: 'f32' },
  ],
};

/** Heads of one attention layer, and the KV blocks that a slot owns. */
export type AttentionShape = { headCount: number; kvHeadCount: number; headDim: number; blocksPerSlot: number };

const qkNorms = { none: 0, head: 1, full: 2 } as const;

/** Without a norm any buffer may stand for `headNorm`. */
export async function ropeKvStep(
  gpu: Gpu,
  buffers: {
    rows: GPUBuffer;
    qkv: GPUBuffer;
    rotation: GPUBuffer;
    blockTable: GPUBuffer;
    headNorm: GPUBuffer;
    query: GPUBuffer;
    keys: GPUBuffer;
    values: GPUBuffer;
  },
  { headCount, kvHeadCount, headDim, blocksPerSlot }: AttentionShape,
  { rotaryDim, qkNorm, epsilon }: { rotaryDim: number; qkNorm: keyof typeof qkNorms; epsilon: number },
): Promise<Step> {
  const pipeline = await createPipeline(gpu, ropeKv, { QK_NORM: qkNorms[qkNorm] });
  const params = createParams(gpu, 'rope_kv params', [
    headCount,
    kvHeadCount,
    headDim,
    rotaryDim,
    blocksPerSlot,
    { f32: epsilon },
  ]);
  const items = ((headCount + 2 * kvHeadCount) * headDim) / 4;
  return {
    label: 'rope_kv',
    bindGroup: createBindGroup(gpu, ropeKv, { params, ...buffers }),
    pipeline: () => pipeline,
    grid: (shape) => [Math.ceil(items / 64), shape.rows, 1],
  };
}
