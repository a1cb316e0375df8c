import packedCode from '../../shaders/lib/packed.wgsl?raw';
import packCode from '../../shaders/pack.wgsl?raw';
import { createBuffer, createStorage, destroyBuffer, usage } from '../gpu/buffers.ts';
import type { Gpu } from '../gpu/device.ts';
import { createBindGroup, createPipeline, encodeStep, foldedGrid, type Kernel } from '../gpu/kernel.ts';
import { readBuffer } from '../gpu/readback.ts';
import { gpuIdle, submitPass } from '../gpu/submit.ts';
import { formatCodes, type PackedMatrix, packedBytes, segmentsOf, type WeightFormat, workgroupSize } from './packed.ts';

export const pack: Kernel = {
  name: 'pack',
  code: packedCode + packCode,
  bindings: [
    { name: 'params', kind: 'uniform' },
    { name: 'source', kind: 'read' },
    { name: 'weight', kind: 'write' },
    { name: 'scales', kind: 'write' },
    { name: 'faults', kind: 'write' },
  ],
  overrides: ['FORMAT', 'SOURCE'],
  params: [
    { name: 'inputSize', type: 'u32' },
    { name: 'rowCount', type: 'u32' },
    { name: 'firstRow', type: 'u32' },
    { name: 'segments', type: 'u32' },
    { name: 'segmentWords', type: 'u32' },
    { name: 'tensor', type: 'u32' },
  ],
};

const sources = { F32: 0, F16: 1, BF16: 2 } as const;

/** Rows of a stored tensor, row-major. `name` is that of the tensor. */
export type StoredRows = { name: string; dtype: keyof typeof sources; rowCount: number; data: Uint8Array };

/** Bytes of a tensor that lie on the GPU at once, on their way into the packed layout. */
export const packSliceBytes = 8 * 2 ** 20;
/** Bytes handed to the queue before it is waited for: what is queued lies in the browser's memory. */
const queuedBytesLimit = 32 * 2 ** 20;

/** Fills matrices, in any order; holds the buffers that all rows pass through. */
export type Packer = {
  /** A matrix (N, K) of zeros. */
  create(label: string, outputSize: number, inputSize: number, format: WeightFormat): PackedMatrix;
  /** Puts rows in their place, the first of them at row `firstRow`. Each row once. */
  write(matrix: PackedMatrix, firstRow: number, rows: StoredRows): Promise<void>;
  /** The tensors with values that their format cannot hold. */
  faulty(): Promise<string[]>;
  /** Frees the buffers that rows pass through. */
  close(): void;
};

export function createPacker(gpu: Gpu, tensorLimit: number): Packer {
  const { queue } = gpu.device;
  const faults = createStorage(gpu, 'pack faults', tensorLimit * 4);
  const params = createBuffer(gpu, 'pack params', 32, usage.uniform | usage.copyDestination);
  const noScales = createStorage(gpu, 'no scales', 16);
  const indexOf = new Map<string, number>(); // tensor → its place in `faults`
  let source = createStorage(gpu, 'pack source', packSliceBytes);
  let queuedBytes = 0;

  /** Rows that do not fit are rare: one is then. */
  const sourceFor = (rowBytes: number): GPUBuffer => {
    if (rowBytes > source.size) {
      destroyBuffer(gpu, source);
      source = createStorage(gpu, 'pack source', rowBytes);
    }
    return source;
  };

  return {
    create(label, outputSize, inputSize, format) {
      const bytes = packedBytes({ outputSize, inputSize }, format);
      const buffer = createStorage(gpu, label, bytes.words);
      const scales = format === 'f16' ? noScales : createStorage(gpu, `${label} scales`, bytes.scales);
      return { buffer, scales, format, outputSize, inputSize, ...segmentsOf(inputSize, format) };
    },
    async write({ buffer: weight, scales, format, inputSize, segments, segmentWords }, firstRow, rows) {
      const { name, dtype, rowCount, data } = rows;
      const tensor = indexOf.get(name) ?? indexOf.size;
      indexOf.set(name, tensor);
      const rowBytes = inputSize * (dtype === 'F32' ? 4 : 2);
      const buffer = sourceFor(rowBytes);
      const pipeline = await createPipeline(gpu, pack, { FORMAT: formatCodes[format], SOURCE: sources[dtype] });
      const bindGroup = createBindGroup(gpu, pack, { params, source: buffer, weight, scales, faults });
      const sliceRows = Math.floor(buffer.size / rowBytes);
      for (let row = 0; row < rowCount; row += sliceRows) {
        const count = Math.min(sliceRows, rowCount - row);
        queue.writeBuffer(buffer, 0, data.buffer as ArrayBuffer, data.byteOffset + row * rowBytes, count * rowBytes);
        const fields = [inputSize, count, firstRow + row, segments, segmentWords, tensor];
        queue.writeBuffer(params, 0, Uint32Array.from(fields));
        const grid = foldedGrid(Math.ceil((count * segments * segmentWords) / 4 / workgroupSize));
        const step = { label: 'pack', bindGroup, pipeline: () => pipeline, grid: () => grid };
        submitPass(gpu, name, (pass) => encodeStep(pass, step, { rows: count, blocks: 0 }));
        queuedBytes += count * rowBytes;
        if (queuedBytes < queuedBytesLimit) continue;
        await gpuIdle(gpu);
        queuedBytes = 0;
      }
    },
    async faulty() {
      const counts = new Uint32Array(await readBuffer(gpu, faults));
      return [...indexOf].filter(([, i]) => (counts[i] as number) > 0).map(([name]) => name);
    },
    close() {
      for (const buffer of [source, faults, params]) destroyBuffer(gpu, buffer);
    },
  };
}
