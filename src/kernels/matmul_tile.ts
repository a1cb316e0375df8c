import activateCode from '../../shaders/lib/activate.wgsl?raw';
import packedCode from '../../shaders/lib/packed.wgsl?raw';
import rowsCode from '../../shaders/lib/rows.wgsl?raw';
import storeCode from '../../shaders/lib/store.wgsl?raw';
import unpackCode from '../../shaders/lib/unpack.wgsl?raw';
import matmulTileCode from '../../shaders/matmul_tile.wgsl?raw';
import type { Gpu } from '../gpu/device.ts';
import { createBindGroup, createPipeline, type Kernel, type Step } from '../gpu/kernel.ts';
import { type MatmulBuffers, type MatmulOptions, matmulParams, matmulRows } from './matmul_rows.ts';
import { formatCodes, type PackedMatrix } from './packed.ts';

export const matmulTile: Kernel = {
  name: 'matmul_tile',
  code: rowsCode + packedCode + unpackCode + activateCode + storeCode + matmulTileCode,
  bindings: matmulRows.bindings,
  overrides: ['FORMAT'],
  params: matmulRows.params,
};

const tile = 32;

/** As matmulRowsStep for any T, in tiles of 32 × 32. */
export async function matmulTileStep(
  gpu: Gpu,
  weight: PackedMatrix,
  buffers: MatmulBuffers,
  options: MatmulOptions,
): Promise<Step> {
  const pipeline = await createPipeline(gpu, matmulTile, { FORMAT: formatCodes[weight.format] });
  return {
    label: 'matmul_tile',
    bindGroup: createBindGroup(gpu, matmulTile, {
      params: matmulParams(gpu, weight, options),
      weight: weight.buffer,
      scales: weight.scales,
      ...buffers,
    }),
    pipeline: () => pipeline,
    grid: (shape) => [Math.ceil(shape.rows / tile), Math.ceil(weight.outputSize / tile), 1],
  };
}
