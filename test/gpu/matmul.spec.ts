import { describe, expect, it } from 'vitest';
import { type MatmulOptions, matmulRowsStep } from '../../src/kernels/matmul_rows.ts';
import { matmulTileStep } from '../../src/kernels/matmul_tile.ts';
import type { WeightFormat } from '../../src/kernels/packed.ts';
import { findRowMismatches } from '../../src/model/self_test.ts';
import { glu } from '../reference/glu.ts';
import { matmul } from '../reference/matmul.ts';
import { quantise } from '../reference/pack.ts';
import { createRandom } from '../reference/random.ts';
import { device, expectClose, floats, packed, readFloats, rounded, rowsOf, run } from './kernel_bench.ts';

const rowCount = 37; // a full tile and a ragged one

describe.each([
  ['f16', 36, 20],
  ['f16', 128, 70],
  ['f16', 640, 256],
  ['f16', 4, 3],
  ['q8', 36, 20],
  ['q8', 640, 70],
  ['q4', 36, 20],
  ['q4', 1024, 70],
  ['q4', 4, 3],
] as [WeightFormat, number, number][])('matmul %s K=%i N=%i', (format, inputSize, outputSize) => {
  it.each([
    { hasBias: true, addOutput: true },
    { hasBias: false, addOutput: false, activation: 'silu' },
    { hasBias: true, addOutput: false, activation: 'gelu_tanh' },
  ] as MatmulOptions[])('equals its twin in every variant, and rows are bit-equal: %o', async (options) => {
    const { hasBias, addOutput, activation = null } = options;
    const rowsOfWeight = activation === null ? outputSize : 2 * outputSize;
    const random = createRandom(inputSize);
    const input = rounded(random.normals(rowCount * inputSize));
    const weight = quantise(rounded(random.normals(rowsOfWeight * inputSize, 0.1)), inputSize, format);
    const bias = rounded(random.normals(rowsOfWeight));
    // Where a tanh or an exponential of its own would overflow.
    if (activation !== null) bias.set([-60, 60, -1000]);
    const residual = rounded(random.normals(rowCount * outputSize));
    const shape = { rows: rowCount, inputSize, outputSize: rowsOfWeight };
    const products = matmul(input, weight, shape, hasBias ? bias : null, addOutput ? residual : null);
    const twin = activation === null ? products : glu(products, outputSize, activation);
    const matrix = await packed(weight, inputSize, format);
    const buffers = (count: number) => ({
      rows: rowsOf(new Array(count).fill(0)),
      bias: floats(bias),
      input: floats(input),
      output: floats(residual),
    });
    const tiled = buffers(rowCount);
    run({ rows: rowCount, blocks: 1 }, await matmulTileStep(device(), matrix, tiled, options));
    const tileOutput = await readFloats(tiled.output);
    expectClose(tileOutput, twin, 1e-5);
    for (let m = 1; m <= 8; m++) {
      const few = buffers(m);
      run({ rows: m, blocks: 1 }, await matmulRowsStep(device(), matrix, few, { ...options, paddedRows: false }));
      const output = await readFloats(few.output);
      expectClose(output, twin.subarray(0, m * outputSize), 1e-5);
      expect(output.subarray(0, m * outputSize)).toEqual(tileOutput.subarray(0, m * outputSize));
      const rest = Float32Array.from(residual.subarray(m * outputSize));
      expect(rest.every((value, i) => value === output[m * outputSize + i])).toBe(true); // nothing is written there
    }
  });
});

it('the load-time self-test finds no difference here, and catches a planted change of order', async () => {
  const matrices = (['f16', 'q4'] as const).map((format) => ({ inputSize: 256, format }));
  expect(await findRowMismatches(device(), matrices)).toEqual([]);
  const gpu = device();
  gpu.pipelines.clear();
  gpu.rewriteShader = (label, code) =>
    label.includes('ROWS=4')
      ? code
          .replace('acc = acc + vec2(a.w, b.w) * x.w;', '')
          .replace('acc = acc + vec2(a.x, b.x)', 'acc = acc + vec2(a.w, b.w) * x.w; acc = acc + vec2(a.x, b.x)')
      : code;
  try {
    expect(await findRowMismatches(gpu, matrices)).toEqual([
      'M=4 f16 K=256',
      'M=4 f16 K=256 gated',
      'M=4 q4 K=256',
      'M=4 q4 K=256 gated',
    ]);
  } finally {
    gpu.rewriteShader = null;
    gpu.pipelines.clear();
  }
});
