import activateCode from '../../shaders/lib/activate.wgsl?raw';
import packedCode from '../../shaders/lib/packed.wgsl?raw';
import rowsCode from '../../shaders/lib/rows.wgsl?raw';
import storeCode from '../../shaders/lib/store.wgsl?raw';
import unpackCode from '../../shaders/lib/unpack.wgsl?raw';
import matmulLaneCode from '../../shaders/matmul_lane.wgsl?raw';
import type { Gpu } from '../gpu/device.ts';
import { createBindGroup, foldedGrid, type Kernel, type Step } from '../gpu/kernel.ts';
import {
  type MatmulBuffers,
  type MatmulOptions,
  matmulParams,
  matmulRows,
  type RowVariants,
  rowPipelines,
} from './matmul_rows.ts';
import type { PackedMatrix } from './packed.ts';

export const matmulLane: Kernel = {
  name: 'matmul_lane',
  code: rowsCode + packedCode + unpackCode + activateCode + storeCode + matmulLaneCode,
  bindings: matmulRows.bindings,
  overrides: matmulRows.overrides,
  params: matmulRows.params,
};

/** Lanes of a workgroup, and outputs of a lane: LANES and OUTPUTS of the shader. */
const lanes = 16;
const outputs = 4;
/** Its pipelines. One of 8 rows would have more sums than a CPU has registers, and take longer than two times four. */
export const laneVariants = [1, 2, 4] as const;

/** As matmulRowsStep, by lanes that share nothing. What the next norm needs is left to norm_input. */
export async function matmulLaneStep(
  gpu: Gpu,
  weight: PackedMatrix,
  buffers: MatmulBuffers,
  { variants = laneVariants, ...options }: MatmulOptions & RowVariants,
): Promise<Step> {
  const [x, y] = foldedGrid(Math.ceil(weight.outputSize / outputs / lanes));
  return {
    label: 'matmul_lane',
    bindGroup: createBindGroup(gpu, matmulLane, {
      params: matmulParams(gpu, weight, options),
      weight: weight.buffer,
      scales: weight.scales,
      ...buffers,
    }),
    pipeline: await rowPipelines(gpu, matmulLane, weight, variants),
    grid: (shape) => [x, y, Math.ceil(shape.rows / Math.max(...variants))],
  };
}
