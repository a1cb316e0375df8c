import { expect, it } from 'vitest';
import { streamRowSize } from '../../src/kernels/stream.ts';
import { tapStep } from '../../src/kernels/tap.ts';
import { createRandom } from '../reference/random.ts';
import { device, floats, readFloats, rounded, rowsOf, run } from './kernel_bench.ts';

it.each([36, 640])(
  'copies the hidden states of the rows of a pass, of width %i, and nothing else',
  async (hiddenSize) => {
    const [rowCount, tapCount, tap] = [3, 3, 1];
    const rowSize = streamRowSize(hiddenSize);
    const stream = rounded(createRandom(hiddenSize).normals(5 * rowSize));
    const untouched = new Float32Array(5 * tapCount * hiddenSize).fill(7);
    const tapped = floats(untouched);
    const rows = rowsOf(new Array(rowCount).fill(0));
    const buffers = { rows, stream: { buffer: floats(stream), hiddenSize }, tapped };
    run({ rows: 5, blocks: 1 }, await tapStep(device(), buffers, { tap, tapCount }));
    for (let t = 0; t < rowCount; t++) {
      untouched.set(stream.subarray(t * rowSize, t * rowSize + hiddenSize), (t * tapCount + tap) * hiddenSize);
    }
    expect(await readFloats(tapped)).toEqual(untouched);
  },
);
