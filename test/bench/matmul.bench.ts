/** The few-rows matmul, by either kernel: time by rows against the fastest single row, and the bytes of weights moved. */
import { createStorage, createStorageFrom, destroyBuffer } from '../../src/gpu/buffers.ts';
import { closeGpu, type Gpu, openGpu } from '../../src/gpu/device.ts';
import { encodeStep, type Pass } from '../../src/gpu/kernel.ts';
import { readBuffer } from '../../src/gpu/readback.ts';
import { submitPass } from '../../src/gpu/submit.ts';
import { fewRowsMatmuls, type KernelKind } from '../../src/kernels/kernel_kind.ts';
import { maxRows } from '../../src/kernels/matmul_rows.ts';
import { createPacker } from '../../src/kernels/pack.ts';
import { packedBytes, type WeightFormat } from '../../src/kernels/packed.ts';
import { rowsSize } from '../../src/kernels/rows.ts';
import { decodeFloat16 } from '../reference/float_formats.ts';
import { matmul } from '../reference/matmul.ts';
import { quantise } from '../reference/pack.ts';
import { createRandom } from '../reference/random.ts';
import { adapterLine, type Timing, type TimingOptions, timePasses, withTimestamps } from './timing.ts';

/** A matrix (N, K) of a model. */
export type MatmulShape = { name: string; outputSize: number; inputSize: number };

export type MatmulFigures = MatmulShape & {
  format: WeightFormat;
  kernel: KernelKind;
  /** [M − 1] */
  ms: number[];
  spread: number[];
  /** [M − 1] = time of M rows / of one row by the faster kernel, both from the fastest samples. */
  v: number[];
  /** Bytes of weights and scales / least time of one row. The same matrix again and again: caches may hold it. */
  bytesPerSecond: number;
};

/** The layers of the embedded pair and of SmolLM2-1.7B. */
export const benchedShapes: readonly MatmulShape[] = [
  { name: 'stories-650k gate+up', outputSize: 768, inputSize: 128 },
  { name: 'stories-3m qkv', outputSize: 512, inputSize: 256 },
  { name: 'stories-3m gate+up', outputSize: 1280, inputSize: 256 },
  { name: 'stories-3m down', outputSize: 256, inputSize: 640 },
  { name: 'stories-3m head', outputSize: 2048, inputSize: 256 },
  { name: 'SmolLM2-1.7B qkv', outputSize: 6144, inputSize: 2048 },
  { name: 'SmolLM2-1.7B o', outputSize: 2048, inputSize: 2048 },
  { name: 'SmolLM2-1.7B gate+up', outputSize: 16384, inputSize: 2048 },
  { name: 'SmolLM2-1.7B down', outputSize: 2048, inputSize: 8192 },
];

export type KernelsReport = { adapter: string; figures: MatmulFigures[] };

/** Every shape whose name contains `only`, in every format. */
export async function benchKernels({
  only,
  sampleCount,
}: {
  only: string;
  sampleCount: number;
}): Promise<KernelsReport> {
  const gpu = await openGpu(withTimestamps(navigator.gpu));
  try {
    const figures: MatmulFigures[] = [];
    for (const shape of benchedShapes.filter(({ name }) => name.includes(only))) {
      for (const format of ['f16', 'q8', 'q4'] as const) {
        figures.push(...(await benchMatmul(gpu, shape, format, { sampleCount, sampleMs: 20 })));
        console.log(`${shape.name} ${format}: done`);
      }
    }
    if (figures.length === 0) throw new Error(`Expected --only to be part of a shape's name, got ${only}.`);
    return { adapter: adapterLine(gpu), figures };
  } finally {
    closeGpu(gpu);
  }
}

export function kernelsMarkdown({ adapter, figures }: KernelsReport): string {
  const row = (...cells: (string | number)[]) => `| ${cells.join(' | ')} |`;
  const head = [
    'matrix',
    'N × K',
    '',
    'by',
    'M = 1, µs',
    'GB/s',
    ...[1, 2, 3, 4, 5, 6, 7, 8].map((m) => `v(${m})`),
    '±',
  ];
  return [
    `## Few rows: ${adapter}`,
    '',
    row(...head),
    row(...head.map(() => '---')),
    ...figures.map(({ name, outputSize, inputSize, format, kernel, ms, v, spread, bytesPerSecond }) =>
      row(
        name,
        `${outputSize} × ${inputSize}`,
        format,
        kernel,
        (1000 * (ms[0] as number)).toFixed(0),
        (bytesPerSecond / 1e9).toFixed(2),
        ...v.map((value) => value.toFixed(2)),
        `${(100 * Math.max(...spread)).toFixed(0)} %`,
      ),
    ),
    '',
    'v(M): time of M rows / of one by the faster kernel, from the fastest samples. ±: median distance of the samples from their median, the largest of all M.',
    '',
  ].join('\n');
}

/** Outputs held against the twin at each end of the matrix. */
const checkedOutputs = 64;

/** @throws Error, and so without a time, where an output differs from the twin. */
export async function benchMatmul(
  gpu: Gpu,
  shape: MatmulShape,
  format: WeightFormat,
  timing: TimingOptions,
): Promise<MatmulFigures[]> {
  const { name, outputSize, inputSize } = shape;
  const random = createRandom(outputSize + inputSize);
  const bits = Uint16Array.from({ length: outputSize * inputSize }, () => {
    const word = random.integer(2 ** 16);
    return (word & 0x8000) | ((word & 0x7fff) % 0x3800); // below 0.5 in magnitude
  });
  const packer = createPacker(gpu, 1);
  const weight = packer.create(name, outputSize, inputSize, format);
  const data = new Uint8Array(bits.buffer);
  await packer.write(weight, 0, { name, dtype: 'F16', rowCount: outputSize, data });
  packer.close();
  const input = Float32Array.from({ length: maxRows * inputSize }, () => random.normal());
  const buffers = {
    bias: createStorage(gpu, 'bench bias', 16),
    input: createStorageFrom(gpu, 'bench input', input),
    output: createStorage(gpu, 'bench output', maxRows * outputSize * 4),
    nextNorm: createStorage(gpu, 'bench norm', 16),
  };
  const rowCounts = Array.from({ length: maxRows }, (_, i) => i + 1);
  const rowBuffers = rowCounts.map((rows) =>
    createStorageFrom(
      gpu,
      'bench rows',
      Uint32Array.from({ length: rowsSize(maxRows) / 4 }, (_, i) => (i === 0 ? rows : 0)),
    ),
  );
  try {
    const options = { hasBias: false, addOutput: false };
    const kernels = Object.keys(fewRowsMatmuls) as KernelKind[];
    const kinds = await Promise.all(
      kernels.flatMap((kernel) =>
        rowBuffers.map(async (rowBuffer, i) => {
          const step = await fewRowsMatmuls[kernel].step(gpu, weight, { ...buffers, rows: rowBuffer }, options);
          return (pass: Pass) => encodeStep(pass, step, { rows: i + 1, blocks: 0 });
        }),
      ),
    );
    for (const [i, kind] of kinds.entries()) {
      const rows = (i % maxRows) + 1;
      submitPass(gpu, 'bench check', kind);
      const output = new Float32Array(await readBuffer(gpu, buffers.output));
      for (const first of [0, Math.max(0, outputSize - checkedOutputs)]) {
        const count = Math.min(checkedOutputs, outputSize);
        const values = Float64Array.from(bits.subarray(first * inputSize, (first + count) * inputSize), decodeFloat16);
        const twinShape = { rows, inputSize, outputSize: count };
        const twin = matmul(
          Float64Array.from(input.subarray(0, rows * inputSize)),
          quantise(values, inputSize, format),
          twinShape,
        );
        const largest = Math.max(...twin.map(Math.abs));
        twin.forEach((expected, i) => {
          const got = output[Math.floor(i / count) * outputSize + first + (i % count)] as number;
          if (Math.abs(got - expected) <= 1e-5 * largest) return;
          throw new Error(
            `${name} ${format}, ${rows} rows: expected ${expected}, got ${got}. No time is worth printing.`,
          );
        });
      }
    }
    const timings = await timePasses(gpu, kinds, timing);
    const { words, scales } = packedBytes(weight, format);
    const ofKernels = kernels.map((kernel, i) => ({ kernel, own: timings.slice(i * maxRows, (i + 1) * maxRows) }));
    const fastest = Math.min(...ofKernels.map(({ own }) => (own[0] as Timing).leastMs));
    return ofKernels.map(({ kernel, own }) => ({
      ...shape,
      format,
      kernel,
      ms: own.map((one) => one.ms),
      spread: own.map((one) => one.spread),
      v: own.map((one) => one.leastMs / fastest),
      bytesPerSecond: (1000 * (words + scales)) / (own[0] as Timing).leastMs,
    }));
  } finally {
    for (const buffer of [...Object.values(buffers), ...rowBuffers, weight.buffer, weight.scales])
      destroyBuffer(gpu, buffer);
  }
}
