import activateCode from '../../shaders/lib/activate.wgsl?raw';
import packedCode from '../../shaders/lib/packed.wgsl?raw';
import rowsCode from '../../shaders/lib/rows.wgsl?raw';
import streamCode from '../../shaders/lib/stream.wgsl?raw';
import unpackCode from '../../shaders/lib/unpack.wgsl?raw';
import matmulRowsCode from '../../shaders/matmul_rows.wgsl?raw';
import { createParams } from '../gpu/buffers.ts';
import type { Gpu } from '../gpu/device.ts';
import { createBindGroup, createPipeline, foldedGrid, type Kernel, type Step } from '../gpu/kernel.ts';
import { formatCodes, type PackedMatrix, rowsPerGroup } from './packed.ts';
import { type StreamNorm, streamRowSize } from './stream.ts';

export const matmulRows: Kernel = {
  name: 'matmul_rows',
  code: rowsCode + packedCode + unpackCode + activateCode + streamCode + matmulRowsCode,
  bindings: [
    { name: 'params', kind: 'uniform' },
    { name: 'rows', kind: 'read' },
    { name: 'weight', kind: 'read' },
    { name: 'scales', kind: 'read' },
    { name: 'bias', kind: 'read' },
    { name: 'input', kind: 'read' },
    { name: 'nextNorm', kind: 'read' },
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
    { name: 'activation', type: 'u32' },
    { name: 'outputRows', type: 'u32' },
    { name: 'outputStride', type: 'u32' },
    { name: 'firstOutput', type: 'u32' },
    { name: 'inputStride', type: 'u32' },
    { name: 'firstInput', type: 'u32' },
    { name: 'squareGroup', type: 'u32' },
    { name: 'epsilon', type: 'f32' },
    { name: 'streamSize', type: 'u32' },
  ],
};

/** Most rows that share one load of the weights; also the most rows of one sequence in a verify pass (k ≤ 7). */
export const maxRows = 8;
/**
 * The pipelines: each serves the passes with fewer rows down to the one before it, by branches that all lanes take alike;
 * the last one also more rows, 8 at a time.
 */
export const rowVariants = [1, 2, 4, 8] as const;

/** `nextNorm` (N,): read where the output is prepared for a norm; else any buffer stands for it, as for `bias`. */
export type MatmulBuffers = {
  rows: GPUBuffer;
  bias: GPUBuffer;
  input: GPUBuffer;
  nextNorm: GPUBuffer;
  output: GPUBuffer;
};
export type MatmulOptions = {
  hasBias: boolean;
  addOutput: boolean;
  /** Of the input only the rows that get logits, to the first rows of the output. */
  outputRowsOnly?: boolean;
  /** The weight is a part of the matrix: what it makes begins at `first` in rows of `stride`. The bias is the matrix's. */
  part?: { first: number; stride: number };
  /** The input is rows of the residual stream: `norm` of their hidden states, or these as they are. Else (M, K). */
  stream?: { norm: StreamNorm | null };
  /**
   * The output is rows of the residual stream: with `nextNorm` few rows leave there what the norm of these weights needs,
   * in sums of squares of `squareGroupOf` the matrix. Tiles leave that to norm_input.
   */
  toStream?: { hiddenSize: number; nextNorm: boolean };
  /** The weight is gate and up, stacked: output (M, N / 2) = activation(gate product) · up product. No residual then. */
  activation?: Activation | null;
};
export type RowVariants = { variants?: readonly number[] };
export type Activation = Exclude<keyof typeof activations, 'none'>;

const activations = { none: 0, silu: 1, gelu_tanh: 2 } as const;

/** Bias, residual and activation are no variants of their own: fewer pipelines to compile, one to hold against another. */
export function matmulParams(
  gpu: Gpu,
  { outputSize, inputSize, segments, segmentWords }: PackedMatrix,
  { hasBias, addOutput, activation, outputRowsOnly = false, part, stream, toStream }: MatmulOptions,
): GPUBuffer {
  const flags = [Number(hasBias), Number(addOutput), activations[activation ?? 'none'], Number(outputRowsOnly)];
  const ownStride = part?.stride ?? (activation ? outputSize / 2 : outputSize);
  const place = [toStream ? streamRowSize(toStream.hiddenSize) : ownStride, part?.first ?? 0];
  const norm = stream?.norm ?? null;
  const source = [(stream ? streamRowSize(inputSize) : inputSize) / 4, norm === null ? 0 : inputSize / 4];
  return createParams(gpu, 'matmul params', [
    ...[outputSize, inputSize / 4, segments, segmentWords],
    ...[...flags, ...place, ...source],
    ...[norm?.squareGroup ?? 0, { f32: norm?.epsilon ?? 0 }],
    toStream?.nextNorm ? toStream.hiddenSize : 0,
  ]);
}

/** Hidden values to each sum of squares that a matmul with this weight leaves behind: those of a workgroup. */
export const squareGroupOf = ({ segments }: PackedMatrix): number => 2 * rowsPerGroup(segments);

/** The pipeline that serves so many rows, of matmul_rows or matmul_lane. */
export async function rowPipelines(
  gpu: Gpu,
  kernel: Kernel,
  { format }: PackedMatrix,
  variants: readonly number[],
): Promise<Step['pipeline']> {
  const pipelines = await Promise.all(
    variants.map((rows) => createPipeline(gpu, kernel, { FORMAT: formatCodes[format], ROWS: rows })),
  );
  const most = Math.max(...variants);
  const pipelineOf = Array.from({ length: most }, (_, i) => pipelines[variants.findIndex((rows) => rows > i)]);
  return ({ rows }) => pipelineOf[Math.min(rows, most) - 1] as GPUComputePipeline;
}

/**
 * output (M, N) = input (M, K) · weightᵀ (+ bias) (+ output).
 * `variants`: the pipelines, by their rows. The largest by itself serves every M, for devices on which they differ in rounding.
 */
export async function matmulRowsStep(
  gpu: Gpu,
  weight: PackedMatrix,
  buffers: MatmulBuffers,
  { variants = rowVariants, ...options }: MatmulOptions & RowVariants,
): Promise<Step> {
  const pipelineOf = await rowPipelines(gpu, matmulRows, weight, variants);
  const outputs = Math.ceil(weight.outputSize / 2); // two a lane, a gate and its up where there is an activation
  const [x, y] = foldedGrid(Math.ceil(outputs / rowsPerGroup(weight.segments)));
  return {
    label: 'matmul_rows',
    bindGroup: createBindGroup(gpu, matmulRows, {
      params: matmulParams(gpu, weight, options),
      weight: weight.buffer,
      scales: weight.scales,
      ...buffers,
    }),
    pipeline: pipelineOf,
    grid: (shape) => [x, y, Math.ceil(shape.rows / Math.max(...variants))],
  };
}
