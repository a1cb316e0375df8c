import acceptCode from '../../shaders/accept.wgsl?raw';
import stateCode from '../../shaders/lib/state.wgsl?raw';
import { createParams } from '../gpu/buffers.ts';
import type { Gpu } from '../gpu/device.ts';
import { createBindGroup, createPipeline, type Kernel, type Step } from '../gpu/kernel.ts';

export const accept: Kernel = {
  name: 'accept',
  code: stateCode + acceptCode,
  bindings: [
    { name: 'params', kind: 'uniform' },
    { name: 'targetTokens', kind: 'read' },
    { name: 'state', kind: 'write' },
    { name: 'history', kind: 'write' },
    { name: 'record', kind: 'write' },
  ],
  overrides: [],
  params: [
    { name: 'slot', type: 'u32' },
    { name: 'historyStride', type: 'u32' },
  ],
};

export async function acceptStep(
  gpu: Gpu,
  buffers: { targetTokens: GPUBuffer; state: GPUBuffer; history: GPUBuffer; record: GPUBuffer },
  { slot, historyStride }: { slot: number; historyStride: number },
): Promise<Step> {
  const pipeline = await createPipeline(gpu, accept, {});
  const params = createParams(gpu, 'accept params', [slot, historyStride]);
  return {
    label: 'accept',
    bindGroup: createBindGroup(gpu, accept, { params, ...buffers }),
    pipeline: () => pipeline,
    grid: () => [1, 1, 1],
  };
}
