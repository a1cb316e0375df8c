import { expect, it } from 'vitest';
import { embedStep } from '../../src/kernels/embed.ts';
import { embed } from '../reference/embed.ts';
import { quantise } from '../reference/pack.ts';
import { createRandom } from '../reference/random.ts';
import { device, empty, packed, readFloats, rounded, rowsOf, run } from './kernel_bench.ts';

it.each([
  ['f16', 36, 1],
  ['f16', 128, 8],
  ['f16', 640, 1],
  ['q8', 36, 1],
  ['q4', 160, 2],
] as const)(
  '%s: gathers rows of width %i exactly, times %i, and clamps a token that is none',
  async (format, hiddenSize, scale) => {
    const weight = quantise(rounded(createRandom(hiddenSize).normals(259 * hiddenSize)), hiddenSize, format);
    const tokens = [258, 0, 7, 0xffffffff];
    const rowSize = hiddenSize + 4;
    const output = empty(tokens.length * rowSize);
    const rows = rowsOf([0, 1, 2, 3], { tokens });
    // In two parts, as where one binding cannot hold all of it.
    for (const [firstToken, end] of [
      [0, 8],
      [8, 259],
    ] as const) {
      const part = await packed(weight.subarray(firstToken * hiddenSize, end * hiddenSize), hiddenSize, format);
      const options = { scale, firstToken, vocabSize: 259, rowSize };
      run({ rows: 4, blocks: 1 }, await embedStep(device(), { rows, weight: part, output }, options));
    }
    const twin = embed([258, 0, 7, 258], weight, hiddenSize, scale);
    const expected = tokens.flatMap((_, t) => [...twin.subarray(t * hiddenSize, (t + 1) * hiddenSize), 0, 0, 0, 0]);
    expect(Array.from(await readFloats(output))).toEqual(expected);
  },
);
