import { describe, expect, it } from 'vitest';
import { matmulRowsStep } from '../../src/kernels/matmul_rows.ts';
import { matmulTileStep } from '../../src/kernels/matmul_tile.ts';
import { findRowMismatches } from '../../src/model/self_test.ts';
import { roundToFloat16 } from '../reference/float_formats.ts';
import { matmul } from '../reference/matmul.ts';
import { createRandom } from '../reference/random.ts';
import { device, expectClose, floats, packed, readFloats, rounded, rowsOf, run } from './kernel_bench.ts';

const rowCount = 37; // a full tile and a ragged one

describe.each([
  [36, 20],
  [128, 70],
  [640, 256],
  [4, 3],
])('matmul K=%i N=%i', (inputSize, outputSize) => {
  it.each([
    [false, false],
    [true, true],
  ])('equals its twin in every variant, and rows are bit-equal (bias %s, residual %s)', async (hasBias, addOutput) => {
    const random = createRandom(inputSize);
    const input = rounded(random.normals(rowCount * inputSize));
    const weight = roundToFloat16(random.normals(outputSize * inputSize, 0.1));
    const bias = rounded(random.normals(outputSize));
    const residual = rounded(random.normals(rowCount * outputSize));
    const shape = { rows: rowCount, inputSize, outputSize };
    const twin = matmul(input, weight, shape, hasBias ? bias : null, addOutput ? residual : null);
    const matrix = packed(weight, inputSize);
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
  const variants = [{ hasBias: false, addOutput: false }];
  expect(await findRowMismatches(device(), [256], variants)).toEqual([]);
  const gpu = device();
  gpu.pipelines.clear();
  gpu.rewriteShader = (label, code) =>
    label.includes('ROWS=3')
      ? code
          .replace('acc = acc + w1.w * x1.w;', '')
          .replace('acc = acc + w0.x * x0.x;', 'acc = acc + w1.w * x1.w; acc = acc + w0.x * x0.x;')
      : code;
  try {
    expect(await findRowMismatches(gpu, [256], variants)).toEqual(['M=3 K=256']);
  } finally {
    gpu.rewriteShader = null;
    gpu.pipelines.clear();
  }
});
