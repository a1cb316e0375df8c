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
    { name: 'slot', type: 'u32' },
    { name: 'historyStride', type: 'u32' },
    { name: 'draftLength', type: 'u32' },
    { name: 'shortest', type: 'u32' },
    { name: 'longest', type: 'u32' },
  ],
};

/** state.drafts and state.draftCount from the history of each of `sequences` slots from `slot` on */
export async function ngramStep(
  gpu: Gpu,
  buffers: { history: GPUBuffer; state: GPUBuffer },
  {
    slot,
    sequences,
    historyStride,
    draftLength,
    shortest,
    longest,
  }: { slot: number; sequences: number; historyStride: number; draftLength: number; shortest: number; longest: number },
): Promise<Step> {
  const pipeline = await createPipeline(gpu, ngram, {});
  const params = createParams(gpu, 'ngram params', [slot, historyStride, draftLength, shortest, longest]);
  return {
    label: 'ngram',
    bindGroup: createBindGroup(gpu, ngram, { params, ...buffers }),
    pipeline: () => pipeline,
    grid: () => [sequences, 1, 1],
  };
}
