/** The two kernels that multiply few rows, with one order of summation: either may serve, and the faster one does. */
import { laneVariants, matmulLaneStep } from './matmul_lane.ts';
import { matmulRowsStep, rowVariants } from './matmul_rows.ts';

/**
 * Who makes an output: the lanes of a workgroup together, as GPUs like it (neighbours load neighbouring words), or a lane by
 * itself, as on CPUs, where a barrier is dear.
 */
export const fewRowsKernels = {
  workgroup: { step: matmulRowsStep, variants: rowVariants },
  lane: { step: matmulLaneStep, variants: laneVariants },
} as const;

export type FewRowsKernel = keyof typeof fewRowsKernels;

/** The pipelines to compile. `paddedRows`: one for every pass, where they differ in rounding. */
export function fewRowsVariants(kernel: FewRowsKernel, paddedRows: boolean): readonly number[] {
  const { variants } = fewRowsKernels[kernel];
  return paddedRows ? variants.slice(-1) : variants;
}
