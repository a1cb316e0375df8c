import { it } from 'vitest';
import { rmsNormStep } from '../../src/kernels/rms_norm.ts';
import { createRandom } from '../reference/random.ts';
import { rmsNorm } from '../reference/rms_norm.ts';
import { device, empty, expectClose, floats, readFloats, rounded, rowsOf, run } from './kernel_bench.ts';

it.each([36, 640, 1028])('equals its twin at width %i, for the output rows', async (hiddenSize) => {
  const random = createRandom(hiddenSize);
  const input = rounded(random.normals(5 * hiddenSize));
  const weight = rounded(random.normals(hiddenSize));
  const twin = rmsNorm(input, weight, Math.fround(1e-5));
  const rowSize = hiddenSize + 8;
  const spaced = Array.from({ length: 5 }, (_, t) => [
    ...input.subarray(t * hiddenSize, (t + 1) * hiddenSize),
    ...new Array(8).fill(Number.NaN),
  ]);
  for (const firstOutputRow of [0, 3]) {
    const rows = rowsOf([0, 1, 2, 3, 4], { firstOutputRow });
    const output = empty(5 * hiddenSize);
    const buffers = { rows, input: floats(spaced.flat()), weight: floats(weight), output };
    const rowCount = 5 - firstOutputRow;
    run({ rows: rowCount, blocks: 1 }, await rmsNormStep(device(), buffers, { hiddenSize, epsilon: 1e-5, rowSize }));
    const got = await readFloats(output);
    expectClose(got, [
      ...twin.subarray(firstOutputRow * hiddenSize),
      ...new Array(firstOutputRow * hiddenSize).fill(0),
    ]);
  }
});
