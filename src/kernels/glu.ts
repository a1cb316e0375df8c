import gluCode from '../../shaders/glu.wgsl?raw';
import rowsCode from '../../shaders/lib/rows.wgsl?raw';
import { createParams } from '../gpu/buffers.ts';
import type { Gpu } from '../gpu/device.ts';
import { createBindGroup, createPipeline, type Kernel, type Step } from '../gpu/kernel.ts';

export const glu: Kernel = {
  name: 'glu',
  code: rowsCode + gluCode,
  bindings: [
    { name: 'params', kind: 'uniform' },
    { name: 'rows', kind: 'read' },
    { name: 'gateUp', kind: 'read' },
    { name: 'output', kind: 'write' },
  ],
  overrides: ['GELU'],
  params: [{ name: 'ffnVectors', type: 'u32' }],
};

/** output (T, F) = activation(gateUp[:, :F]) · gateUp[:, F:] */
export async function gluStep(
  gpu: Gpu,
  buffers: { rows: GPUBuffer; gateUp: GPUBuffer; output: GPUBuffer },
  { ffnSize, activation }: { ffnSize: number; activation: 'silu' | 'gelu_tanh' },
): Promise<Step> {
  const pipeline = await createPipeline(gpu, glu, { GELU: Number(activation === 'gelu_tanh') });
  const params = createParams(gpu, 'glu params', [ffnSize / 4]);
  return {
    label: 'glu',
    bindGroup: createBindGroup(gpu, glu, { params, ...buffers }),
    pipeline: () => pipeline,
    grid: (shape) => [Math.ceil(ffnSize / 4 / 64), shape.rows, 1],
  };
}
