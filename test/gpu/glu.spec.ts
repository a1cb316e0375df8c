import { it } from 'vitest';
import { siluMulStep } from '../../src/kernels/silu_mul.ts';
import { createRandom } from '../reference/random.ts';
import { siluMul } from '../reference/silu_mul.ts';
import { device, empty, expectClose, floats, readFloats, rounded, rowsOf, run } from './kernel_bench.ts';

it.each([36, 640])('equals its twin at width %i', async (ffnSize) => {
  const gateUp = rounded(createRandom(ffnSize).normals(3 * 2 * ffnSize, 4));
  const output = empty(3 * ffnSize);
  run(
    { rows: 3, blocks: 1 },
    await siluMulStep(device(), { rows: rowsOf([0, 1, 2]), gateUp: floats(gateUp), output }, { ffnSize }),
  );
  expectClose(await readFloats(output), siluMul(gateUp, ffnSize));
});
