import { expect, it } from 'vitest';
import { embedStep } from '../../src/kernels/embed.ts';
import { embed } from '../reference/embed.ts';
import { roundToFloat16 } from '../reference/float_formats.ts';
import { createRandom } from '../reference/random.ts';
import { device, empty, packed, readFloats, rowsOf, run } from './kernel_bench.ts';

it.each([
  [36, 1],
  [128, 8],
  [640, 1],
])('gathers rows of width %i exactly, times %i, and clamps a token that is none', async (hiddenSize, scale) => {
  const weight = roundToFloat16(createRandom(hiddenSize).normals(259 * hiddenSize));
  const tokens = [258, 0, 7, 0xffffffff];
  const output = empty(tokens.length * hiddenSize);
  const rows = rowsOf([0, 1, 2, 3], tokens);
  run(
    { rows: 4, blocks: 1 },
    await embedStep(device(), { rows, weight: packed(weight, hiddenSize), output }, { scale }),
  );
  expect(Array.from(await readFloats(output))).toEqual(Array.from(embed([258, 0, 7, 258], weight, hiddenSize, scale)));
});
