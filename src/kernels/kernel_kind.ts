/** The two kinds of kernels, with one order of summation: either may serve, and the faster one does. */
import { laneVariants, matmulLaneStep } from './matmul_lane.ts';
import { matmulRowsStep, rowVariants } from './matmul_rows.ts';

/**
 * Who makes an output: the lanes of a workgroup together, as GPUs like it (neighbours load neighbouring words), or a lane by
 * itself, as on CPUs, where a barrier is dear.
 */
export type KernelKind = 'workgroup' | 'lane';

/** The matmuls of few rows; by lanes those of prompts, too. */
export const fewRowsMatmuls = {
  workgroup: { step: matmulRowsStep, variants: rowVariants },
  lane: { step: matmulLaneStep, variants: laneVariants },
} as const;

/** The pipelines to compile. `paddedRows`: one for every pass, where they differ in rounding. */
export function matmulVariants(kind: KernelKind, paddedRows: boolean): readonly number[] {
  const { variants } = fewRowsMatmuls[kind];
  return paddedRows ? variants.slice(-1) : variants;
}
