import reduceCode from '../../shaders/lib/reduce.wgsl?raw';
import rowsCode from '../../shaders/lib/rows.wgsl?raw';
import rmsNormCode from '../../shaders/rms_norm.wgsl?raw';
import { createParams } from '../gpu/buffers.ts';
import type { Gpu } from '../gpu/device.ts';
import { createBindGroup, createPipeline, type Kernel, type Step } from '../gpu/kernel.ts';

export const rmsNorm: Kernel = {
  name: 'rms_norm',
  code: rowsCode + reduceCode + rmsNormCode,
  bindings: [
    { name: 'params', kind: 'uniform' },
    { name: 'rows', kind: 'read' },
    { name: 'input', kind: 'read' },
    { name: 'weight', kind: 'read' },
    { name: 'output', kind: 'write' },
  ],
  overrides: [],
  params: [
    { name: 'hiddenSize', type: 'u32' },
    { name: 'epsilon', type: 'f32' },
    { name: 'rowVectors', type: 'u32' },
  ],
};

/**
 * output (output rows, D) = norm(input (T, D)) · weight (D,), of the rows that get logits. `rowSize`: floats from one row
 * of the input to the next.
 */
export async function rmsNormStep(
  gpu: Gpu,
  buffers: { rows: GPUBuffer; input: GPUBuffer; weight: GPUBuffer; output: GPUBuffer },
  { hiddenSize, epsilon, rowSize }: { hiddenSize: number; epsilon: number; rowSize: number },
): Promise<Step> {
  const pipeline = await createPipeline(gpu, rmsNorm, {});
  const params = createParams(gpu, 'rms_norm params', [hiddenSize, { f32: epsilon }, rowSize / 4]);
  return {
    label: 'rms_norm',
    bindGroup: createBindGroup(gpu, rmsNorm, { params, ...buffers }),
    pipeline: () => pipeline,
    grid: (shape) => [1, shape.rows, 1],
  };
}
