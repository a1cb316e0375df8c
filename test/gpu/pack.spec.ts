import { expect, it } from 'vitest';
import { createPacker, type StoredRows } from '../../src/kernels/pack.ts';
import type { WeightFormat } from '../../src/kernels/packed.ts';
import { encodeBfloat16, encodeFloat16, roundToBfloat16, roundToFloat16 } from '../reference/float_formats.ts';
import { quantise, readPacked } from '../reference/pack.ts';
import { createRandom } from '../reference/random.ts';
import { device, readUints, rounded } from './kernel_bench.ts';

const stored = (values: Float64Array, dtype: StoredRows['dtype'], inputSize: number): StoredRows => {
  const encode = dtype === 'F16' ? encodeFloat16 : encodeBfloat16;
  const array = dtype === 'F32' ? Float32Array.from(values) : Uint16Array.from(values, encode);
  return { name: dtype, dtype, rowCount: values.length / inputSize, data: new Uint8Array(array.buffer) };
};
const asStored = { F32: rounded, F16: roundToFloat16, BF16: roundToBfloat16 };

it.each([
  ['f16', 'F32', 36],
  ['f16', 'F16', 640],
  ['f16', 'BF16', 128],
  ['q8', 'F32', 36],
  ['q8', 'BF16', 640],
  ['q4', 'F16', 36],
  ['q4', 'F32', 576],
  ['q4', 'BF16', 2048],
] as [WeightFormat, StoredRows['dtype'], number][])(
  '%s from %s, K = %i: every value is the twin’s, and the padding is 0',
  async (format, dtype, inputSize) => {
    const [first, second] = [5, 14]; // rows of two stacked tensors
    const random = createRandom(inputSize);
    const values = asStored[dtype](random.normals((first + second) * inputSize, 0.2));
    values.fill(0, 2 * inputSize, 2 * inputSize + 32); // a block without a value
    values.set([1e-6, -3e-7, 0.25, -0.25], 3 * inputSize); // subnormal in f16; equal in magnitude
    const exact = asStored[dtype](values);
    const cut = first * inputSize;
    const parts = [exact.subarray(0, cut), exact.subarray(cut)].map((part) => stored(part, dtype, inputSize));
    const packer = createPacker(device(), 1);
    const matrix = packer.create('matrix', first + second, inputSize, format);
    // Files have them in any order.
    await packer.write(matrix, first, parts[1] as StoredRows);
    await packer.write(matrix, 0, parts[0] as StoredRows);
    expect(await packer.faulty()).toEqual([]);
    packer.close();
    expect(matrix).toMatchObject({ format, inputSize, outputSize: first + second });
    const [words, scales] = [await readUints(matrix.buffer), await readUints(matrix.scales)];
    const twin = quantise(exact, inputSize, format);
    for (let n = 0; n < first + second; n++) {
      for (let k = 0; k < inputSize; k++) {
        const got = readPacked(matrix, words, scales, n, k);
        if (got !== twin[n * inputSize + k]) {
          throw new Error(`Expected (${n}, ${k}) to be ${twin[n * inputSize + k]}, got ${got}.`);
        }
      }
    }
    const packedLength = matrix.segments * matrix.segmentWords * { f16: 8, q8: 16, q4: 32 }[format];
    for (let k = inputSize; k < packedLength; k++) expect(readPacked(matrix, words, scales, 0, k)).toBeCloseTo(0, 12);
  },
);

it('finds its own values again: q8 and q4 of what they gave before', async () => {
  for (const format of ['q8', 'q4'] as const) {
    const once = quantise(rounded(createRandom(5).normals(4 * 96)), 96, format);
    expect(quantise(once, 96, format)).toEqual(once);
  }
});

it.each(['f16', 'q8', 'q4'] as const)('%s names the tensor that has what it cannot hold', async (format) => {
  const good = new Float64Array(64).fill(1);
  const rows = [1, Number.NaN, Number.POSITIVE_INFINITY, 1e38].map((value, i) => ({
    ...stored(good.with(40, value), 'F32', 64),
    name: `tensor ${i}`,
  }));
  for (const [some, faulty] of [
    [rows.slice(0, 3), ['tensor 1', 'tensor 2']],
    [rows.slice(3), ['tensor 3']],
  ] as const) {
    const packer = createPacker(device(), 3);
    const matrix = packer.create('matrix', some.length, 64, format);
    for (const [i, row] of some.entries()) await packer.write(matrix, i, row);
    expect(await packer.faulty()).toEqual(faulty);
    packer.close();
  }
});
