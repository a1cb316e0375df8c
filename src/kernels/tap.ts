import rowsCode from '../../shaders/lib/rows.wgsl?raw';
import tapCode from '../../shaders/tap.wgsl?raw';
import { createParams } from '../gpu/buffers.ts';
import type { Gpu } from '../gpu/device.ts';
import { createBindGroup, createPipeline, type Kernel, type Step } from '../gpu/kernel.ts';
import { workgroupSize } from './packed.ts';
import { type Stream, streamRowSize } from './stream.ts';

export const tap: Kernel = {
  name: 'tap',
  code: rowsCode + tapCode,
  bindings: [
    { name: 'params', kind: 'uniform' },
    { name: 'rows', kind: 'read' },
    { name: 'stream', kind: 'read' },
    { name: 'tapped', kind: 'write' },
  ],
  overrides: [],
  params: [
    { name: 'hiddenVectors', type: 'u32' },
    { name: 'rowVectors', type: 'u32' },
    { name: 'tapCount', type: 'u32' },
    { name: 'tap', type: 'u32' },
  ],
};

/** tapped (T, taps, D) [:, tap] = the hidden states of `stream`. */
export async function tapStep(
  gpu: Gpu,
  { rows, stream: { buffer: stream, hiddenSize }, tapped }: { rows: GPUBuffer; stream: Stream; tapped: GPUBuffer },
  { tap: index, tapCount }: { tap: number; tapCount: number },
): Promise<Step> {
  const pipeline = await createPipeline(gpu, tap, {});
  const params = createParams(gpu, 'tap params', [hiddenSize / 4, streamRowSize(hiddenSize) / 4, tapCount, index]);
  return {
    label: 'tap',
    bindGroup: createBindGroup(gpu, tap, { params, rows, stream, tapped }),
    pipeline: () => pipeline,
    grid: (shape) => [Math.ceil(hiddenSize / 4 / workgroupSize), shape.rows, 1],
  };
}
