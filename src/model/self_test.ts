import { createStorage, createStorageFrom, destroyBuffer, withTemporaries } from '../gpu/buffers.ts';
import type { Gpu } from '../gpu/device.ts';
import { encodeStep, type Step } from '../gpu/kernel.ts';
import { readBuffer } from '../gpu/readback.ts';
import { submitPass } from '../gpu/submit.ts';
import { fewRowsMatmuls, type KernelKind, matmulVariants } from '../kernels/kernel_kind.ts';
import { maxRows, squareGroupOf } from '../kernels/matmul_rows.ts';
import { matmulTileStep } from '../kernels/matmul_tile.ts';
import { normInputStep } from '../kernels/norm_input.ts';
import { createPacker } from '../kernels/pack.ts';
import type { WeightFormat } from '../kernels/packed.ts';
import { rowsSize } from '../kernels/rows.ts';
import { streamRowSize } from '../kernels/stream.ts';

/** Rows of the tiled pass under test. */
const tileRows = 32;
const outputSize = 96;
const rowSize = streamRowSize(outputSize);
const epsilon = 1e-5;

/**
 * Do the matmul variants give a row the same bits on this device, in each few-rows pipeline and in the tile with its
 * norm_input? The order of summation is the same, but a compiler may contract or reassociate one variant and not another
 * (WGSL allows it). Attention: self_test_attention.ts. All other kernels run one pipeline for every pass, so a row's bits
 * cannot depend on it there.
 * @returns the names of the variants that differ from the one of most rows; empty when all agree.
 */
export async function findRowMismatches(
  gpu: Gpu,
  matrices: readonly { inputSize: number; format: WeightFormat }[],
  kernelKind: KernelKind,
): Promise<string[]> {
  return withTemporaries(gpu, async () => {
    const mismatches: string[] = [];
    const rowsData = new Uint32Array(rowsSize(tileRows) / 4);
    rowsData[0] = tileRows;
    const rows = createStorageFrom(gpu, 'self-test rows', rowsData);
    const noise = pseudoRandom(1);
    const bias = createStorageFrom(gpu, 'self-test bias', Float32Array.from({ length: outputSize }, noise));
    const norm = createStorageFrom(gpu, 'self-test norm', Float32Array.from({ length: outputSize }, noise));
    const tested = new Set<string>();
    for (const [index, { inputSize, format }] of matrices.entries()) {
      const what = `${format} K=${inputSize}`;
      if (tested.has(what)) continue;
      tested.add(what);
      const inputData = Float32Array.from({ length: tileRows * streamRowSize(inputSize) }, noise);
      const input = createStorageFrom(gpu, 'self-test input', inputData);
      // Random float16 bits below 2 in magnitude: the fractions fill all ten bits, so rounding shows.
      const bits = Uint16Array.from({ length: outputSize * inputSize }, () => (noise() + 1) * 0x1e00);
      const packer = createPacker(gpu, 1);
      const weight = packer.create('self-test weight', outputSize, inputSize, format);
      const data = new Uint8Array(bits.buffer);
      await packer.write(weight, 0, { name: what, dtype: 'F16', rowCount: outputSize, data });
      packer.close();
      const run = async (create: (output: GPUBuffer) => Promise<Step>[], rowCount: number): Promise<Uint32Array> => {
        const output = createStorage(gpu, 'self-test output', tileRows * rowSize * 4);
        try {
          const steps = await Promise.all(create(output));
          submitPass(gpu, 'self-test', (pass) => {
            for (const step of steps) encodeStep(pass, step, { rows: rowCount, blocks: 0 });
          });
          return new Uint32Array(await readBuffer(gpu, output));
        } finally {
          destroyBuffer(gpu, output);
        }
      };
      const squareGroup = squareGroupOf(weight);
      const normed = { stream: { norm: { squareGroup, epsilon } }, hasBias: true, addOutput: false };
      const leavesNorm = kernelKind === 'workgroup';
      const plain = { ...normed, toStream: { hiddenSize: outputSize, nextNorm: leavesNorm } };
      const gated = { ...normed, activation: 'silu' } as const;
      const buffersWith = (output: GPUBuffer) => ({ rows, bias, input, nextNorm: norm, output });
      /** Of the stream, what tiles and lanes leave to norm_input. */
      const prepare = (buffer: GPUBuffer, weights: GPUBuffer, hiddenSize: number) => {
        const next = { weight: weights, squareGroup };
        return normInputStep(gpu, { rows, stream: { buffer, hiddenSize } }, { next, added: null, epsilon });
      };
      const inputNorm = createStorageFrom(gpu, 'self-test norm', Float32Array.from({ length: inputSize }, noise));
      const prepareInput = await prepare(input, inputNorm, inputSize);
      submitPass(gpu, 'self-test', (pass) => encodeStep(pass, prepareInput, { rows: tileRows, blocks: 0 }));
      // What is done with a sum does not depend on K: the gated form is compared once for each format.
      const isFirst = !matrices.slice(0, index).some((other) => other.format === format);
      for (const options of isFirst ? [plain, gated] : [plain]) {
        const prepared = (output: GPUBuffer) => (options === plain ? [prepare(output, norm, outputSize)] : []);
        const few = (variants: readonly number[]) => (output: GPUBuffer) => [
          fewRowsMatmuls[kernelKind].step(gpu, weight, buffersWith(output), { ...options, variants }),
          ...(leavesNorm ? [] : prepared(output)),
        ];
        const tile = (output: GPUBuffer) => [
          matmulTileStep(gpu, weight, buffersWith(output), options),
          ...prepared(output),
        ];
        const reference = await run(few(matmulVariants(kernelKind, true)), maxRows);
        const compare = (name: string, words: Uint32Array, rowCount: number) => {
          const count = rowCount * (options === gated ? outputSize / 2 : rowSize);
          // A workgroup leaves the root mean square to who reads it.
          const isLeft = (i: number) =>
            leavesNorm && options === plain && Math.floor((i % rowSize) / 4) === outputSize / 2;
          if (words.subarray(0, count).every((word, i) => word === reference[i] || isLeft(i))) return;
          mismatches.push(`${name} ${what}${options === gated ? ' gated' : ''}`);
        };
        const variants = matmulVariants(kernelKind, false);
        for (const m of variants) compare(`M=${m}`, await run(few(variants), m), m);
        if (leavesNorm) compare('tile', await run(tile, tileRows), maxRows);
      }
    }
    return mismatches;
  });
}

/** Deterministic values in [−1, 1): a linear congruential generator is enough to fill mantissas. */
export function pseudoRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  };
}
