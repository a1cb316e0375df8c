import acceptCode from '../../shaders/accept.wgsl?raw';
import recordCode from '../../shaders/lib/record.wgsl?raw';
import stateCode from '../../shaders/lib/state.wgsl?raw';
import { createParams } from '../gpu/buffers.ts';
import type { Gpu } from '../gpu/device.ts';
import { createBindGroup, createPipeline, type Kernel, type Step } from '../gpu/kernel.ts';

export const accept: Kernel = {
  name: 'accept',
  code: stateCode + recordCode + acceptCode,
  bindings: [
    { name: 'params', kind: 'uniform' },
    { name: 'targetTokens', kind: 'read' },
    { name: 'nextTokens', kind: 'read' },
    { name: 'state', kind: 'write' },
    { name: 'history', kind: 'write' },
    { name: 'record', kind: 'write' },
    { name: 'adjustments', kind: 'write' },
  ],
  overrides: [],
  params: [
    { name: 'historyStride', type: 'u32' },
    { name: 'vocabSize', type: 'u32' },
  ],
};

/** record (slots,) RoundRecord of each slot that has a turn; its state and history move on. */
export async function acceptStep(
  gpu: Gpu,
  buffers: {
    targetTokens: GPUBuffer;
    nextTokens: GPUBuffer;
    state: GPUBuffer;
    history: GPUBuffer;
    record: GPUBuffer;
    adjustments: GPUBuffer;
  },
  { slots, historyStride, vocabSize }: { slots: number; historyStride: number; vocabSize: number },
): Promise<Step> {
  const pipeline = await createPipeline(gpu, accept, {});
  const params = createParams(gpu, 'accept params', [historyStride, vocabSize]);
  return {
    label: 'accept',
    bindGroup: createBindGroup(gpu, accept, { params, ...buffers }),
    pipeline: () => pipeline,
    grid: () => [slots, 1, 1],
  };
}
