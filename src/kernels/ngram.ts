import stateCode from '../../shaders/lib/state.wgsl?raw';
import ngramCode from '../../shaders/ngram.wgsl?raw';
import { createParams } from '../gpu/buffers.ts';
import type { Gpu } from '../gpu/device.ts';
import { createBindGroup, createPipeline, type Kernel, type Step } from '../gpu/kernel.ts';

export const ngram: Kernel = {
  name: 'ngram',
  code: stateCode + ngramCode,
  bindings: [
    { name: 'params', kind: 'uniform' },
    { name: 'history', kind: 'read' },
    { name: 'state', kind: 'write' },
  ],
  overrides: [],
  params: [
    { name: 'historyStride', type: 'u32' },
    { name: 'shortest', type: 'u32' },
    { name: 'longest', type: 'u32' },
  ],
};

/** state.drafts and state.draftCount from the history of each slot that has a turn with drafts */
export async function ngramStep(
  gpu: Gpu,
  buffers: { history: GPUBuffer; state: GPUBuffer },
  {
    slots,
    historyStride,
    shortest,
    longest,
  }: { slots: number; historyStride: number; shortest: number; longest: number },
): Promise<Step> {
  const pipeline = await createPipeline(gpu, ngram, {});
  const params = createParams(gpu, 'ngram params', [historyStride, shortest, longest]);
  return {
    label: 'ngram',
    bindGroup: createBindGroup(gpu, ngram, { params, ...buffers }),
    pipeline: () => pipeline,
    grid: () => [slots, 1, 1],
  };
}
