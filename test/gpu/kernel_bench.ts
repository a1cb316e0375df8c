/** What the kernel specs share: one device, buffers in, one dispatch, words out, comparison with a twin. */
import { expect } from 'vitest';
import { createStorage, createStorageFrom, destroyBuffer } from '../../src/gpu/buffers.ts';
import { closeGpu, type Gpu, openGpu } from '../../src/gpu/device.ts';
import { encodeStep, type PassShape, type Step } from '../../src/gpu/kernel.ts';
import { findLateWaits, readBuffer } from '../../src/gpu/readback.ts';
import { submitPass } from '../../src/gpu/submit.ts';
import { createPacker } from '../../src/kernels/pack.ts';
import type { PackedMatrix, WeightFormat } from '../../src/kernels/packed.ts';

let gpu: Gpu;

/** Before each file (setup.ts). Files that share a page share the device: compiling takes longer than most of them. */
export async function openSharedGpu(): Promise<void> {
  if (gpu !== undefined) return;
  gpu = await openGpu();
  await findLateWaits(gpu);
}

/** After each file: its buffers go, what is compiled stays. A device that failed goes too, and fails the file. */
export function releaseSharedGpu(): void {
  const { failure, buffers } = gpu;
  for (const buffer of buffers) destroyBuffer(gpu, buffer);
  if (failure === null) return;
  closeGpu(gpu);
  gpu = undefined as unknown as Gpu;
  throw failure;
}

export const device = (): Gpu => gpu;

/** Compiles anew what `work` uses, as `rewrite` makes it of a variant's label and code. */
export async function withShaders<T>(rewrite: NonNullable<Gpu['rewriteShader']>, work: () => Promise<T>): Promise<T> {
  const { pipelines } = gpu;
  gpu.pipelines = new Map();
  gpu.rewriteShader = rewrite;
  try {
    return await work();
  } finally {
    gpu.rewriteShader = null;
    gpu.pipelines = pipelines;
  }
}

export const floats = (values: ArrayLike<number>) => createStorageFrom(gpu, 'floats', Float32Array.from(values));
export const words = (values: ArrayLike<number>) => createStorageFrom(gpu, 'words', Uint32Array.from(values));
export const empty = (count: number) => createStorage(gpu, 'output', count * 4);

/** The words of a Rows buffer: one row of slot 0 per position, with its token, in query groups of `groupRows`. */
export function rowWords(
  positions: readonly number[],
  {
    tokens,
    firstOutputRow = 0,
    groupRows = 1,
  }: { tokens?: readonly number[]; firstOutputRow?: number; groupRows?: number } = {},
) {
  const { length } = positions;
  const groupAt = (i: number) => (i * groupRows) | (Math.min(groupRows, length - i * groupRows) << 16);
  const fields = positions.flatMap((position, i) => [
    tokens?.[i] ?? 0,
    0,
    position,
    i * groupRows < length ? groupAt(i) : 0,
  ]);
  return Uint32Array.from([length, firstOutputRow, Math.ceil(length / groupRows), 0, ...fields]);
}
export const rowsOf = (...rows: Parameters<typeof rowWords>) => words(rowWords(...rows));

/** A matrix (N, K) as the kernels read it. */
export async function packed(
  values: Float64Array,
  inputSize: number,
  format: WeightFormat = 'f16',
): Promise<PackedMatrix> {
  const packer = createPacker(gpu, 1);
  const data = new Uint8Array(Float32Array.from(values).buffer);
  const rowCount = values.length / inputSize;
  const matrix = packer.create('weight', rowCount, inputSize, format);
  await packer.write(matrix, 0, { name: 'weight', dtype: 'F32', rowCount, data });
  expect(await packer.faulty()).toEqual([]);
  packer.close();
  return matrix;
}

export function run(shape: PassShape, ...steps: Step[]): void {
  submitPass(gpu, 'spec', (pass) => {
    for (const step of steps) encodeStep(pass, step, shape);
  });
}

export const readFloats = async (buffer: GPUBuffer) => new Float32Array(await readBuffer(gpu, buffer));
export const readUints = async (buffer: GPUBuffer) => new Uint32Array(await readBuffer(gpu, buffer));

/** Values as the GPU gets them. */
export const rounded = (values: Float64Array) => Float64Array.from(values, Math.fround);

/** Largest difference, relative to the twin's largest value, is below `tolerance`. */
export function expectClose(got: ArrayLike<number>, twin: ArrayLike<number>, tolerance = 2e-6): void {
  let scale = 0;
  for (let i = 0; i < twin.length; i++) scale = Math.max(scale, Math.abs(twin[i] as number));
  expect(scale).toBeGreaterThan(0);
  for (let i = 0; i < twin.length; i++) {
    const difference = Math.abs((got[i] as number) - (twin[i] as number));
    if (!(difference <= tolerance * scale)) {
      throw new Error(`Expected element ${i} to be within ${tolerance * scale} of ${twin[i]}, got ${got[i]}.`);
    }
  }
}
