import { expect, it } from 'vitest';
import { normInputStep } from '../../src/kernels/norm_input.ts';
import { streamRowSize } from '../../src/kernels/stream.ts';
import { normInput } from '../reference/norm_input.ts';
import { createRandom } from '../reference/random.ts';
import { rmsNorm } from '../reference/rms_norm.ts';
import { device, expectClose, floats, readFloats, rounded, rowsOf, run } from './kernel_bench.ts';

it.each([
  [4, 4],
  [36, 10], // a last group of fewer
  [640, 6],
  [1028, 4], // more groups than 8 parts of four take at once
  [576, 32],
])('equals its twin at width %i in groups of %i', async (hiddenSize, squareGroup) => {
  const rowCount = 3;
  const random = createRandom(hiddenSize);
  const rowSize = streamRowSize(hiddenSize);
  const hidden = rounded(random.normals(rowCount * hiddenSize));
  const weight = rounded(random.normals(hiddenSize));
  const rowOf = (values: ArrayLike<number>, t: number, width: number) =>
    Array.from({ length: width }, (_, i) => values[t * width + i] as number);
  // One row more than the pass has, and NaN wherever nothing is to be read.
  const words = Array.from({ length: rowCount + 1 }, (_, t) => [
    ...(t < rowCount ? rowOf(hidden, t, hiddenSize) : new Array(hiddenSize).fill(Number.NaN)),
    ...new Array(rowSize - hiddenSize).fill(Number.NaN),
  ]);
  const rows = rowsOf([0, 1, 2]);
  const output = rounded(random.normals(rowCount * hiddenSize));
  const outputNorm = rounded(random.normals(hiddenSize));
  const epsilon = Math.fround(1e-5);
  const normed = rmsNorm(output, outputNorm, epsilon);
  for (const adds of [false, true]) {
    const buffer = floats(words.flat());
    const before = adds ? hidden.map((x, i) => x + (normed[i] as number)) : hidden;
    const added = adds ? { output: floats(output), weight: floats(outputNorm) } : null;
    for (const next of [null, { weight: floats(weight), squareGroup }]) {
      if (next === null && !adds) continue;
      if (next !== null) device().device.queue.writeBuffer(buffer, 0, Float32Array.from(words.flat()));
      const step = await normInputStep(device(), { rows, stream: { buffer, hiddenSize } }, { next, added, epsilon });
      run({ rows: rowCount + 1, blocks: 1 }, step);
      const got = await readFloats(buffer);
      for (const [t, twin] of normInput(before, weight, squareGroup, epsilon).entries()) {
        const row = got.subarray(t * rowSize, (t + 1) * rowSize);
        expectClose(
          row.subarray(0, hiddenSize),
          before.subarray(t * hiddenSize, (t + 1) * hiddenSize),
          adds ? 2e-6 : 0,
        );
        const zeros = new Array((4 - (twin.squares.length % 4)) % 4).fill(0);
        const squares = [...twin.squares, ...zeros];
        const end = next === null ? hiddenSize : 2 * hiddenSize + 4 + squares.length;
        expect(row.subarray(end).every(Number.isNaN)).toBe(true);
        if (next === null) continue;
        expectClose(row.subarray(hiddenSize, 2 * hiddenSize), twin.scaled);
        expectClose(row.subarray(2 * hiddenSize, 2 * hiddenSize + 1), [twin.inverse]);
        expectClose(row.subarray(2 * hiddenSize + 4, end), squares);
      }
      expect(got.subarray(rowCount * rowSize).every(Number.isNaN)).toBe(true);
    }
  }
});
