import { expect, it } from 'vitest';
import { gluStep } from '../../src/kernels/glu.ts';
import { glu } from '../reference/glu.ts';
import { createRandom } from '../reference/random.ts';
import { device, empty, expectClose, floats, readFloats, rounded, rowsOf, run } from './kernel_bench.ts';

it.each([
  [36, 'silu'],
  [640, 'silu'],
  [36, 'gelu_tanh'],
] as const)('equals its twin at width %i, %s', async (ffnSize, activation) => {
  const gateUp = rounded(createRandom(ffnSize).normals(3 * 2 * ffnSize, 4));
  // Where a tanh or an exponential of its own would overflow.
  gateUp.set([-60, 60, -1000, 1000]);
  const output = empty(3 * ffnSize);
  const buffers = { rows: rowsOf([0, 1, 2]), gateUp: floats(gateUp), output };
  run({ rows: 3, blocks: 1 }, await gluStep(device(), buffers, { ffnSize, activation }));
  const got = await readFloats(output);
  const twin = glu(gateUp, ffnSize, activation);
  expect(got.every(Number.isFinite)).toBe(true);
  expectClose(got.subarray(4), twin.subarray(4));
  expectClose(got, twin);
});
