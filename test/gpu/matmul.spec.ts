import { describe, expect, it } from 'vitest';
import { matmulRowsStep } from '../../src/kernels/matmul_rows.ts';
import { matmulTileStep } from '../../src/kernels/matmul_tile.ts';
import type { WeightFormat } from '../../src/kernels/packed.ts';
import { findRowMismatches } from '../../src/model/self_test.ts';
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
    [false, false],
    [true, true],
  ])('equals its twin in every variant, and rows are bit-equal (bias %s, residual %s)', async (hasBias, addOutput) => {
    const random = createRandom(inputSize);
    const input = rounded(random.normals(rowCount * inputSize));
    const weight = quantise(rounded(random.normals(outputSize * inputSize, 0.1)), inputSize, format);
    const bias = rounded(random.normals(outputSize));
    const residual = rounded(random.normals(rowCount * outputSize));
    const shape = { rows: rowCount, inputSize, outputSize };
    const twin = matmul(input, weight, shape, hasBias ? bias : null, addOutput ? residual : null);
    const matrix = await packed(weight, inputSize, format);
    const rows = rowsOf(Array.from({ length: rowCount }, (_, i) => i));
    const buffers = () => ({ rows, bias: floats(bias), input: floats(input), output: floats(residual) });
    const tiled = buffers();
    run({ rows: rowCount, blocks: 1 }, await matmulTileStep(device(), matrix, tiled, { hasBias, addOutput }));
    const tileOutput = await readFloats(tiled.output);
    expectClose(tileOutput, twin, 1e-5);
    for (let m = 1; m <= 8; m++) {
      const few = buffers();
      run(
        { rows: m, blocks: 1 },
        await matmulRowsStep(device(), matrix, few, { hasBias, addOutput, paddedRows: false }),
      );
      const output = await readFloats(few.output);
      expectClose(output, twin.subarray(0, m * outputSize), 1e-5);
      expect(output.subarray(0, m * outputSize)).toEqual(tileOutput.subarray(0, m * outputSize));
    }
  });
});

it('the load-time self-test finds no difference here, and catches a planted change of order', async () => {
  const matrices = (['f16', 'q4'] as const).map((format) => ({ inputSize: 256, format }));
  expect(await findRowMismatches(device(), matrices)).toEqual([]);
  const gpu = device();
  gpu.pipelines.clear();
  gpu.rewriteShader = (label, code) =>
    label.includes('ROWS=3')
      ? code
          .replace('acc = acc + w.w * x.w;', '')
          .replace('acc = acc + w.x * x.x;', 'acc = acc + w.w * x.w; acc = acc + w.x * x.x;')
      : code;
  try {
    expect(await findRowMismatches(gpu, matrices)).toEqual(['M=3 f16 K=256', 'M=3 q4 K=256']);
  } finally {
    gpu.rewriteShader = null;
    gpu.pipelines.clear();
  }
});
