import { expect, it } from 'vitest';
import { rmsNormStep } from '../../src/kernels/rms_norm.ts';
import { createRandom } from '../reference/random.ts';
import { rmsNorm } from '../reference/rms_norm.ts';
import { device, empty, expectClose, floats, readFloats, rounded, rowsOf, run } from './kernel_bench.ts';

it.each([36, 640, 1028])(
  'equals its twin at width %i, for all rows, for the output rows and onto a residual',
  async (hiddenSize) => {
    const random = createRandom(hiddenSize);
    const input = rounded(random.normals(5 * hiddenSize));
    const weight = rounded(random.normals(hiddenSize));
    const twin = rmsNorm(input, weight, Math.fround(1e-5));
    const first = 3;
    const rows = rowsOf([0, 1, 2, 3, 4], { firstOutputRow: first });
    for (const outputRowsOnly of [false, true]) {
      const output = empty(5 * hiddenSize);
      const buffers = { rows, input: floats(input), weight: floats(weight), output };
      const rowCount = outputRowsOnly ? 2 : 5;
      run(
        { rows: rowCount, blocks: 1 },
        await rmsNormStep(device(), buffers, { hiddenSize, epsilon: 1e-5, outputRowsOnly }),
      );
      const got = await readFloats(output);
      expectClose(got, outputRowsOnly ? twin.subarray(first * hiddenSize) : twin);
      if (outputRowsOnly) expect(got.subarray(2 * hiddenSize).every((x) => x === 0)).toBe(true);
    }
    const residual = rounded(random.normals(5 * hiddenSize));
    const output = floats(residual);
    const buffers = { rows, input: floats(input), weight: floats(weight), output };
    run({ rows: 5, blocks: 1 }, await rmsNormStep(device(), buffers, { hiddenSize, epsilon: 1e-5, addOutput: true }));
    expectClose(
      await readFloats(output),
      twin.map((value, i) => value + (residual[i] as number)),
    );
  },
);
