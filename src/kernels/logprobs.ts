import argmaxLibCode from '../../shaders/lib/argmax.wgsl?raw';
import recordCode from '../../shaders/lib/record.wgsl?raw';
import reduceWideCode from '../../shaders/lib/reduce_wide.wgsl?raw';
import stateCode from '../../shaders/lib/state.wgsl?raw';
import logprobsCode from '../../shaders/logprobs.wgsl?raw';
import { createParams } from '../gpu/buffers.ts';
import type { Gpu } from '../gpu/device.ts';
import { createBindGroup, createPipeline, type Kernel, type Step } from '../gpu/kernel.ts';
import { maxRows } from './matmul_rows.ts';

export const logprobs: Kernel = {
  name: 'logprobs',
  code: stateCode + recordCode + argmaxLibCode + reduceWideCode + logprobsCode,
  bindings: [
    { name: 'params', kind: 'uniform' },
    { name: 'state', kind: 'read' },
    { name: 'logits', kind: 'read' },
    { name: 'record', kind: 'read' },
    { name: 'logprobs', kind: 'write' },
  ],
  overrides: [],
  params: [{ name: 'vocabSize', type: 'u32' }],
};

/** logprobs (slots, 8, 41) u32 from logits (rows, V) and the records of the same round */
export async function logprobsStep(
  gpu: Gpu,
  buffers: { state: GPUBuffer; logits: GPUBuffer; record: GPUBuffer; logprobs: GPUBuffer },
  { slots, vocabSize }: { slots: number; vocabSize: number },
): Promise<Step> {
  const pipeline = await createPipeline(gpu, logprobs, {});
  const params = createParams(gpu, 'logprobs params', [vocabSize]);
  return {
    label: 'logprobs',
    bindGroup: createBindGroup(gpu, logprobs, { params, ...buffers }),
    pipeline: () => pipeline,
    grid: () => [slots, maxRows, 1],
  };
}
