import reduceCode from '../../shaders/lib/reduce.wgsl?raw';
import rowsCode from '../../shaders/lib/rows.wgsl?raw';
import streamCode from '../../shaders/lib/stream.wgsl?raw';
import normInputCode from '../../shaders/norm_input.wgsl?raw';
import { createParams } from '../gpu/buffers.ts';
import type { Gpu } from '../gpu/device.ts';
import { createBindGroup, createPipeline, type Kernel, type Step } from '../gpu/kernel.ts';
import { type Stream, streamRowSize } from './stream.ts';

export const normInput: Kernel = {
  name: 'norm_input',
  code: rowsCode + reduceCode + streamCode + normInputCode,
  bindings: [
    { name: 'params', kind: 'uniform' },
    { name: 'rows', kind: 'read' },
    { name: 'weight', kind: 'read' },
    { name: 'added', kind: 'read' },
    { name: 'addedNorm', kind: 'read' },
    { name: 'stream', kind: 'write' },
  ],
  overrides: ['ADD'],
  params: [
    { name: 'hiddenSize', type: 'u32' },
    { name: 'rowSize', type: 'u32' },
    { name: 'squareGroup', type: 'u32' },
    { name: 'epsilon', type: 'f32' },
  ],
};

/**
 * Makes of the hidden states in `stream` what a matmul reads that comes behind a norm of `next.weight` (D,); `added`: after
 * these got the norm, by weights (D,), of a block's output (T, D).
 */
export async function normInputStep(
  gpu: Gpu,
  { rows, stream: { buffer: stream, hiddenSize } }: { rows: GPUBuffer; stream: Stream },
  {
    next,
    added,
    epsilon,
  }: {
    next: { weight: GPUBuffer; squareGroup: number } | null;
    added: { output: GPUBuffer; weight: GPUBuffer } | null;
    epsilon: number;
  },
): Promise<Step> {
  const pipeline = await createPipeline(gpu, normInput, { ADD: Number(added !== null) });
  const fields = [hiddenSize, streamRowSize(hiddenSize), next?.squareGroup ?? 0, { f32: epsilon }];
  const params = createParams(gpu, 'norm_input params', fields);
  // Where there is none, what is bound is not read.
  const weight = next?.weight ?? (added?.weight as GPUBuffer);
  const { output, weight: addedNorm } = added ?? { output: weight, weight };
  return {
    label: 'norm_input',
    bindGroup: createBindGroup(gpu, normInput, { params, rows, weight, added: output, addedNorm, stream }),
    pipeline: () => pipeline,
    grid: (shape) => [1, shape.rows, 1],
  };
}
