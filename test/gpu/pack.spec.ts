import { expect, it } from 'vitest';
import { createPacker, type StoredRows } from '../../src/kernels/pack.ts';
import type { WeightFormat } from '../../src/kernels/packed.ts';
import { encodeBfloat16, encodeFloat16, roundToBfloat16, roundToFloat16 } from '../reference/float_formats.ts';
import { quantise, readPacked } from '../reference/pack.ts';
import { createRandom } from '../reference/random.ts';
import { device, readUints, rounded } from './kernel_bench.ts';

const stored = (values: Float64Array, dtype: StoredRows['dtype']): StoredRows => {
  const encode = dtype === 'F16' ? encodeFloat16 : encodeBfloat16;
  const array = dtype === 'F32' ? Float32Array.from(values) : Uint16Array.from(values, encode);
  return { name: dtype, dtype, data: new Uint8Array(array.buffer) };
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
    const parts = [stored(exact.subarray(0, cut), dtype), stored(exact.subarray(cut), dtype)];
    const packer = createPacker(device(), 2);
    const matrix = await packer.pack('matrix', parts, inputSize, format);
    expect(await packer.finish()).toEqual([]);
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
  const packer = createPacker(device(), 3);
  const good = new Float64Array(64).fill(1);
  const bad = [Number.NaN, Number.POSITIVE_INFINITY, 1e38].map((value, i) => ({
    ...stored(good.with(40, value), 'F32'),
    name: `bad ${i}`,
  }));
  await packer.pack('matrix', [stored(good, 'F32'), ...bad.slice(0, 2)], 64, format);
  expect(await packer.finish()).toEqual(['bad 0', 'bad 1']);
  const second = createPacker(device(), 1);
  await second.pack('matrix', [bad[2] as StoredRows], 64, format);
  expect(await second.finish()).toEqual(['bad 2']);
});
