import { expect, it } from 'vitest';
import { argmaxStep, chunksOf } from '../../src/kernels/argmax.ts';
import { argmaxFoldStep } from '../../src/kernels/argmax_fold.ts';
import { argmax, noToken } from '../reference/argmax.ts';
import { createRandom } from '../reference/random.ts';
import { device, empty, floats, readUints, rounded, rowsOf, run } from './kernel_bench.ts';

it.each([3, 259, 2048, 151_936])('equals its twin over %i logits: ties, NaN, infinities', async (vocabSize) => {
  const random = createRandom(vocabSize);
  const rowValues = Array.from({ length: 5 }, () => rounded(random.normals(vocabSize)));
  const at = (row: number, index: number, value: number) => {
    (rowValues[row] as Float64Array)[index] = value;
  };
  at(1, vocabSize - 1, 9); // a tie between the ends takes the lowest id
  at(1, 1, 9);
  at(2, 0, Number.NaN);
  at(2, vocabSize - 1, Number.POSITIVE_INFINITY);
  rowValues[3]?.fill(Number.NaN);
  rowValues[4]?.fill(-3.4028234663852886e38);
  const logits = floats(rowValues.flatMap((row) => Array.from(row)));
  const rows = rowsOf([0, 1, 2, 3, 4]);
  const candidates = empty(5 * chunksOf(vocabSize) * 2);
  const sampled = empty(8);
  run(
    { rows: 5, blocks: 1 },
    await argmaxStep(device(), { rows, logits, candidates }, { vocabSize }),
    await argmaxFoldStep(device(), { rows, candidates, sampled }, { vocabSize }),
  );
  const got = Array.from((await readUints(sampled)).subarray(0, 5));
  expect(got).toEqual(rowValues.map((row) => argmax(row)));
  expect(got[1]).toBe(1);
  expect(got[3]).toBe(noToken);
});
