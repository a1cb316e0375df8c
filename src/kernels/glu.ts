import rowsCode from '../../shaders/lib/rows.wgsl?raw';
import siluMulCode from '../../shaders/silu_mul.wgsl?raw';
import { createParams } from '../gpu/buffers.ts';
import type { Gpu } from '../gpu/device.ts';
import { createBindGroup, createPipeline, type Kernel, type Step } from '../gpu/kernel.ts';

export const siluMul: Kernel = {
  name: 'silu_mul',
  code: rowsCode + siluMulCode,
  bindings: [
    { name: 'params', kind: 'uniform' },
    { name: 'rows', kind: 'read' },
    { name: 'gateUp', kind: 'read' },
    { name: 'output', kind: 'write' },
  ],
  overrides: [],
  params: [{ name: 'ffnVectors', type: 'u32' }],
};

/** output (T, F) = silu(gateUp[:, :F]) · gateUp[:, F:] */
export async function siluMulStep(
  gpu: Gpu,
  buffers: { rows: GPUBuffer; gateUp: GPUBuffer; output: GPUBuffer },
  { ffnSize }: { ffnSize: number },
): Promise<Step> {
  const pipeline = await createPipeline(gpu, siluMul, {});
  const params = createParams(gpu, 'silu_mul params', [ffnSize / 4]);
  return {
    label: 'silu_mul',
    bindGroup: createBindGroup(gpu, siluMul, { params, ...buffers }),
    pipeline: () => pipeline,
    grid: (shape) => [Math.ceil(ffnSize / 4 / 64), shape.rows, 1],
  };
}
