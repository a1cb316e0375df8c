import { describe, expect, it } from 'vitest';
import { createBindGroup, createPipeline, type Kernel } from '../../src/gpu/kernel.ts';
import { fewRowsMatmuls, type KernelKind } from '../../src/kernels/kernel_kind.ts';
import { matmulLane } from '../../src/kernels/matmul_lane.ts';
import { type MatmulOptions, matmulParams, matmulRows, squareGroupOf } from '../../src/kernels/matmul_rows.ts';
import { matmulTileStep } from '../../src/kernels/matmul_tile.ts';
import { normInputStep } from '../../src/kernels/norm_input.ts';
import { formatCodes, rowsPerGroup, type WeightFormat } from '../../src/kernels/packed.ts';
import { streamRowSize } from '../../src/kernels/stream.ts';
import { findRowMismatches } from '../../src/model/self_test.ts';
import { glu } from '../reference/glu.ts';
import { matmul } from '../reference/matmul.ts';
import { normInput } from '../reference/norm_input.ts';
import { quantise } from '../reference/pack.ts';
import { createRandom } from '../reference/random.ts';
import { rmsNorm } from '../reference/rms_norm.ts';
import {
  device,
  empty,
  expectClose,
  floats,
  packed,
  readFloats,
  readUints,
  rounded,
  rowsOf,
  run,
  withShaders,
} from './kernel_bench.ts';

const rowCount = 37; // a full tile and a ragged one
const kernels = Object.keys(fewRowsMatmuls) as KernelKind[];

describe.each([
  ['f16', 36, 20],
  ['f16', 128, 70],
  ['f16', 640, 256],
  ['f16', 2048, 34],
  ['f16', 4, 3],
  ['q8', 36, 20],
  ['q8', 640, 70],
  ['q4', 36, 20],
  ['q4', 576, 22],
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
      nextNorm: empty(4),
      output: floats(residual),
    });
    const tiled = buffers(rowCount);
    run({ rows: rowCount, blocks: 1 }, await matmulTileStep(device(), matrix, tiled, options));
    const tileOutput = await readFloats(tiled.output);
    expectClose(tileOutput, twin, 1e-5);
    for (const kernel of kernels) {
      for (let m = 1; m <= 8; m++) {
        const few = buffers(m);
        run({ rows: m, blocks: 1 }, await fewRowsMatmuls[kernel].step(device(), matrix, few, options));
        const output = await readFloats(few.output);
        expectClose(output, twin.subarray(0, m * outputSize), 1e-5);
        expect(output.subarray(0, m * outputSize)).toEqual(tileOutput.subarray(0, m * outputSize));
        const rest = Float32Array.from(residual.subarray(m * outputSize));
        expect(rest.every((value, i) => value === output[m * outputSize + i])).toBe(true); // nothing is written there
      }
    }
  });
});

/** Rows of a residual stream, (T, rowSize): their hidden states, and NaN wherever something is yet to be made. */
const streamRows = (hidden: Float64Array, hiddenSize: number) => {
  const rest = new Array(streamRowSize(hiddenSize) - hiddenSize).fill(Number.NaN);
  const count = hidden.length / hiddenSize;
  return Array.from({ length: count }, (_, t) => [...hidden.subarray(t * hiddenSize, (t + 1) * hiddenSize), ...rest]);
};

describe.each([
  ['f16', 36, 20],
  ['q8', 640, 72],
  ['q4', 576, 36], // six products to a workgroup
  ['q4', 2048, 68],
] as [WeightFormat, number, number][])(
  'matmul %s K=%i N=%i on the residual stream',
  (format, inputSize, outputSize) => {
    it('reads a norm that few rows or norm_input left there, and leaves the next one: the same bits', async () => {
      const epsilon = 1e-5;
      const random = createRandom(outputSize);
      const weight = quantise(rounded(random.normals(outputSize * inputSize, 0.1)), inputSize, format);
      const [bias, nextNorm] = [rounded(random.normals(outputSize)), rounded(random.normals(outputSize))];
      const hidden = rounded(random.normals(rowCount * inputSize));
      const inputNorm = rounded(random.normals(inputSize));
      const residual = rounded(random.normals(rowCount * outputSize));
      const shape = { rows: rowCount, inputSize, outputSize };
      const normed = rmsNorm(hidden, inputNorm, Math.fround(epsilon));
      const twin = matmul(normed, weight, shape, bias, residual);
      const matrix = await packed(weight, inputSize, format);
      const squareGroup = squareGroupOf(matrix);
      const norm = { squareGroup, epsilon };
      const options = {
        hasBias: true,
        addOutput: true,
        stream: { norm },
        toStream: { hiddenSize: outputSize, nextNorm: true },
      };
      const prepare = (rows: GPUBuffer, values: Float64Array, buffer: GPUBuffer) =>
        normInputStep(
          device(),
          { rows, stream: { buffer, hiddenSize: values.length } },
          { next: { weight: floats(values), squareGroup }, added: null, epsilon },
        );
      const input = floats(streamRows(hidden, inputSize).flat());
      const all = rowsOf(new Array(rowCount).fill(0));
      run({ rows: rowCount, blocks: 1 }, await prepare(all, inputNorm, input));
      const buffers = (rows: GPUBuffer) => {
        const output = floats(streamRows(residual, outputSize).flat());
        return { rows, bias: floats(bias), input, nextNorm: floats(nextNorm), output };
      };
      const tiled = buffers(all);
      run(
        { rows: rowCount, blocks: 1 },
        await matmulTileStep(device(), matrix, tiled, options),
        await prepare(all, nextNorm, tiled.output),
      );
      const tileOutput = await readFloats(tiled.output);
      const rowSize = streamRowSize(outputSize);
      const made = Float64Array.from({ length: rowCount * outputSize }, (_, i) => {
        return tileOutput[Math.floor(i / outputSize) * rowSize + (i % outputSize)] as number;
      });
      expectClose(made, twin, 1e-5);
      const expected = normInput(made, nextNorm, squareGroup, Math.fround(epsilon));
      for (const m of [1, 2, 3, 8]) {
        for (const [kernel, leavesNorm] of [
          ['workgroup', true],
          ['workgroup', false],
          ['lane', false],
        ] as const) {
          const few = buffers(rowsOf(new Array(m).fill(0)));
          const step = { ...options, toStream: { ...options.toStream, nextNorm: leavesNorm } };
          run({ rows: m, blocks: 1 }, await fewRowsMatmuls[kernel].step(device(), matrix, few, step));
          const output = await readFloats(few.output);
          for (let t = 0; t < m; t++) {
            const got = output.subarray(t * rowSize, (t + 1) * rowSize);
            const row = tileOutput.slice(t * rowSize, (t + 1) * rowSize);
            if (!leavesNorm) row.fill(Number.NaN, outputSize);
            row.fill(Number.NaN, 2 * outputSize, 2 * outputSize + 4); // read from the sums of squares
            expect(got).toEqual(row);
            if (leavesNorm) expectClose(got.subarray(outputSize, 2 * outputSize), expected[t]!.scaled);
          }
          const rest = output.subarray(m * rowSize).filter((x) => !Number.isNaN(x));
          expect(rest).toEqual(Float32Array.from(residual.subarray(m * outputSize)));
        }
      }
    });
  },
);

it.each(kernels)(
  'of the rows that get logits alone a %s makes what it makes of all, in the first rows',
  async (kernel) => {
    const [inputSize, outputSize, count] = [576, 36, 21];
    const random = createRandom(5);
    const matrix = await packed(random.normals(outputSize * inputSize, 0.1), inputSize, 'q8');
    const squareGroup = squareGroupOf(matrix);
    const options = { hasBias: false, addOutput: false };
    const source = { stream: { norm: { squareGroup, epsilon: 1e-5 } } };
    const input = floats(streamRows(rounded(random.normals(count * inputSize)), inputSize).flat());
    const all = rowsOf(new Array(count).fill(0));
    const stream = { buffer: input, hiddenSize: inputSize };
    const next = { weight: floats(rounded(random.normals(inputSize))), squareGroup };
    run(
      { rows: count, blocks: 1 },
      await normInputStep(device(), { rows: all, stream }, { next, added: null, epsilon: 1e-5 }),
    );
    const outputOf = async (rows: GPUBuffer, rowCount: number, outputRowsOnly: boolean) => {
      const output = floats(new Array(count * outputSize).fill(Number.NaN));
      const buffers = { rows, bias: empty(4), input, nextNorm: empty(4), output };
      const step = await fewRowsMatmuls[kernel].step(device(), matrix, buffers, {
        ...options,
        ...source,
        outputRowsOnly,
      });
      run({ rows: rowCount, blocks: 1 }, step);
      return readFloats(output);
    };
    const whole = await outputOf(all, count, false);
    expect(whole.some(Number.isNaN)).toBe(false);
    for (const firstOutputRow of [0, 3, 8, count - 1]) {
      const rows = rowsOf(new Array(count).fill(0), { firstOutputRow });
      // A pass that was encoded for more output rows than there are writes none beyond them.
      const got = await outputOf(rows, count, true);
      const wanted = new Float32Array(count * outputSize).fill(Number.NaN);
      wanted.set(whole.subarray(firstOutputRow * outputSize));
      expect(got).toEqual(wanted);
    }
  },
);

it('the load-time self-test finds no difference here, and catches a planted change of order', async () => {
  const matrices = (['f16', 'q4'] as const).map((format) => ({ inputSize: 256, format }));
  for (const kernel of kernels) expect(await findRowMismatches(device(), matrices, kernel)).toEqual([]);
  const sums = { workgroup: 'vec2(a.high.w, b.high.w)', lane: 'vec4(a.high.w, b.high.w, c.high.w, d.high.w)' };
  for (const kernel of kernels) {
    const reorder = (label: string, code: string) =>
      label.includes('ROWS=2')
        ? code
            .replace(`acc = acc + ${sums[kernel]} * y.w;`, '')
            .replace('var acc = sum;', `var acc = sum + ${sums[kernel]} * y.w;`)
        : code;
    expect(await withShaders(reorder, () => findRowMismatches(device(), matrices, kernel))).toEqual([
      'M=2 f16 K=256',
      'M=2 f16 K=256 gated',
      'M=2 q4 K=256',
      'M=2 q4 K=256 gated',
    ]);
  }
  const backwards = (label: string, code: string) =>
    label.includes('ROWS=2')
      ? code.replace('hidden[lane * 32u + i]', 'hidden[lane * 32u + 2u * rowsPerGroup - 1u - i]')
      : code;
  expect(await withShaders(backwards, () => findRowMismatches(device(), matrices, 'workgroup'))).toEqual([
    'M=2 f16 K=256',
    'M=2 q4 K=256',
  ]);
});

it('lanes by themselves wait for nobody', () => {
  expect(matmulLane.code).not.toMatch(/Barrier|var<workgroup>/);
  expect(matmulRows.code).toMatch(/workgroupBarrier/);
});

describe.each([
  ['f16', 1],
  ['f16', 8],
  ['q8', 8],
  ['q4', 8],
] as [WeightFormat, number][])('loads of the few-rows kernel, counted in it: %s, %i rows', (format, rowTotal) => {
  it.each([null, 'silu'] as const)(
    'activation %s: every weight word once, by neighbours for neighbours',
    async (activation) => {
      const [outputSize, inputSize] = [24, 2048];
      const weight = await packed(createRandom(1).normals(outputSize * inputSize), inputSize, format);
      const words = (outputSize * inputSize) / (8 << formatCodes[format]);
      const groups = Math.ceil(outputSize / 2 / rowsPerGroup(weight.segments));
      const loadsPerLane = words / groups / 64;
      const counted: Kernel = {
        ...matmulRows,
        name: 'matmul_rows counted',
        bindings: [...matmulRows.bindings, { name: 'trace', kind: 'write' }],
        code: `${matmulRows.code
          .replace(/weight\[(index[AB])\]/g, 'traced_weight($1)')
          .replace(/= input\[(.*?)\];/g, '= traced_input($1);')
          .replace('var indexA =', 'workgroupIndex = group; laneIndex = lane; var indexA =')}
        // (groups, 64 lanes, 1 + loads): how many loads of the input, then which words of the weight.
        @group(0) @binding(8) var<storage, read_write> trace: array<u32>;
        var<private> workgroupIndex: u32;
        var<private> laneIndex: u32;
        var<private> weightLoads: u32;
        fn trace_start() -> u32 { return (workgroupIndex * 64u + laneIndex) * ${1 + loadsPerLane}u; }
        fn traced_weight(index: u32) -> vec4<u32> {
          weightLoads += 1u;
          if (weightLoads <= ${loadsPerLane}u) { trace[trace_start() + weightLoads] = index + 1u; }
          return weight[index];
        }
        fn traced_input(index: u32) -> vec4<f32> {
          trace[trace_start()] += 1u;
          return input[index];
        }`,
      };
      expect(counted.code.match(/traced_\w+\(/g)?.length).toBe(2 + 2 + 2);
      const pipeline = await createPipeline(device(), counted, { FORMAT: formatCodes[format], ROWS: rowTotal });
      const trace = empty(groups * 64 * (1 + loadsPerLane));
      const bindGroup = createBindGroup(device(), counted, {
        params: matmulParams(device(), weight, { hasBias: false, addOutput: false, activation }),
        rows: rowsOf(new Array(rowTotal).fill(0)),
        weight: weight.buffer,
        scales: weight.scales,
        bias: empty(outputSize),
        input: empty(rowTotal * inputSize),
        nextNorm: empty(4),
        output: empty(rowTotal * outputSize),
        trace,
      });
      run(
        { rows: rowTotal, blocks: 0 },
        { label: 'counted', bindGroup, pipeline: () => pipeline, grid: () => [groups, 1, 1] },
      );
      const traced = await readUints(trace);
      const lanes = Array.from({ length: groups * 64 }, (_, lane) =>
        traced.subarray(lane * (1 + loadsPerLane), (lane + 1) * (1 + loadsPerLane)),
      );
      // One load of four inputs for every row serves two outputs.
      const vectorsPerWord = 2 << formatCodes[format];
      expect(new Set(lanes.map(([inputLoads]) => inputLoads))).toEqual(
        new Set([(loadsPerLane / 2) * vectorsPerWord * rowTotal]),
      );
      const loads = lanes.flatMap((lane) => [...lane.subarray(1)]);
      expect([...loads].sort((a, b) => a - b)).toEqual(Array.from({ length: words }, (_, i) => i + 1));
      for (const [lane, own] of lanes.entries()) {
        const neighbour = lanes[lane - (lane % 32)] as Uint32Array;
        expect([...own.subarray(1)]).toEqual([...neighbour.subarray(1)].map((index) => index + (lane % 32)));
      }
    },
  );
});
