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
    { name: 'state', kind: 'write' },
    { name: 'history', kind: 'write' },
    { name: 'record', kind: 'write' },
    { name: 'adjustments', kind: 'write' },
  ],
  overrides: ['REJECTION'],
  params: [
    { name: 'slot', type: 'u32' },
    { name: 'historyStride', type: 'u32' },
    { name: 'targetStride', type: 'u32' },
    { name: 'vocabSize', type: 'u32' },
  ],
};

/** record (sequences,) RoundRecord; state and history move on */
export async function acceptStep(
  gpu: Gpu,
  buffers: {
    targetTokens: GPUBuffer;
    state: GPUBuffer;
    history: GPUBuffer;
    record: GPUBuffer;
    adjustments: GPUBuffer;
  },
  {
    slot,
    sequences,
    historyStride,
    targetStride,
    vocabSize,
    rejection,
  }: {
    slot: number;
    sequences: number;
    historyStride: number;
    /** From one sequence's target tokens to the next one's. */
    targetStride: number;
    vocabSize: number;
    /** reject.wgsl counted the accepted drafts; otherwise those that equal the target's tokens are accepted. */
    rejection: boolean;
  },
): Promise<Step> {
  const pipeline = await createPipeline(gpu, accept, { REJECTION: Number(rejection) });
  const params = createParams(gpu, 'accept params', [slot, historyStride, targetStride, vocabSize]);
  return {
    label: 'accept',
    bindGroup: createBindGroup(gpu, accept, { params, ...buffers }),
    pipeline: () => pipeline,
    grid: () => [sequences, 1, 1],
  };
}
