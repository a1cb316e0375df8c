import packedCode from '../../shaders/lib/packed.wgsl?raw';
import rowsCode from '../../shaders/lib/rows.wgsl?raw';
import unpackCode from '../../shaders/lib/unpack.wgsl?raw';
import matmulRowsCode from '../../shaders/matmul_rows.wgsl?raw';
import { createParams } from '../gpu/buffers.ts';
import type { Gpu } from '../gpu/device.ts';
import { createBindGroup, createPipeline, foldedGrid, type Kernel, type Step } from '../gpu/kernel.ts';
import { formatCodes, type PackedMatrix, workgroupSize } from './packed.ts';

export const matmulRows: Kernel = {
  name: 'matmul_rows',
  code: rowsCode + packedCode + unpackCode + matmulRowsCode,
  bindings: [
    { name: 'params', kind: 'uniform' },
    { name: 'rows', kind: 'read' },
    { name: 'weight', kind: 'read' },
    { name: 'scales', kind: 'read' },
    { name: 'bias', kind: 'read' },
    { name: 'input', kind: 'read' },
    { name: 'output', kind: 'write' },
  ],
  overrides: ['FORMAT', 'ROWS'],
  params: [
    { name: 'outputSize', type: 'u32' },
    { name: 'inputVectors', type: 'u32' },
    { name: 'segments', type: 'u32' },
    { name: 'segmentWords', type: 'u32' },
    { name: 'hasBias', type: 'u32' },
    { name: 'addOutput', type: 'u32' },
  ],
};

/** Most rows that share one load of the weights; also the most rows of a verify pass (k ≤ 7). */
export const maxRows = 8;

export type MatmulBuffers = { rows: GPUBuffer; bias: GPUBuffer; input: GPUBuffer; output: GPUBuffer };
export type MatmulOptions = { hasBias: boolean; addOutput: boolean };

/** Bias and residual are no variants of their own: fewer pipelines to compile, and one to hold against another. */
export function matmulParams(gpu: Gpu, weight: PackedMatrix, { hasBias, addOutput }: MatmulOptions): GPUBuffer {
  const { outputSize, inputSize, segments, segmentWords } = weight;
  const fields = [outputSize, inputSize / 4, segments, segmentWords, Number(hasBias), Number(addOutput)];
  return createParams(gpu, 'matmul params', fields);
}

/**
 * output (M, N) = input (M, K) · weightᵀ (+ bias) (+ output), M = 1..8; one pipeline per M.
 * `paddedRows`: one pipeline of 8 rows serves every M, for devices on which the variants differ in rounding.
 */
export async function matmulRowsStep(
  gpu: Gpu,
  weight: PackedMatrix,
  buffers: MatmulBuffers,
  { hasBias, addOutput, paddedRows }: MatmulOptions & { paddedRows: boolean },
): Promise<Step> {
  const pipelines = await Promise.all(
    Array.from({ length: maxRows }, (_, i) =>
      createPipeline(gpu, matmulRows, {
        FORMAT: formatCodes[weight.format],
        ROWS: paddedRows ? maxRows : i + 1,
      }),
    ),
  );
  const grid = foldedGrid(Math.ceil(weight.outputSize / (workgroupSize / weight.segments)));
  return {
    label: 'matmul_rows',
    bindGroup: createBindGroup(gpu, matmulRows, {
      params: matmulParams(gpu, weight, { hasBias, addOutput }),
      weight: weight.buffer,
      scales: weight.scales,
      ...buffers,
    }),
    pipeline: (shape) => pipelines[shape.rows - 1] as GPUComputePipeline,
    grid: () => grid,
  };
}
