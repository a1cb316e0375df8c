import packedCode from '../../shaders/lib/packed.wgsl?raw';
import packCode from '../../shaders/pack.wgsl?raw';
import { createBuffer, createStorage, destroyBuffer, usage } from '../gpu/buffers.ts';
import type { Gpu } from '../gpu/device.ts';
import { createBindGroup, createPipeline, encodeStep, foldedGrid, type Kernel } from '../gpu/kernel.ts';
import { readBuffer } from '../gpu/readback.ts';
import { gpuIdle, submitPass } from '../gpu/submit.ts';
import { formatCodes, type PackedMatrix, packedWords, segmentsOf, type WeightFormat, workgroupSize } from './packed.ts';

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

/** Rows of a stored tensor, row-major. */
export type StoredRows = {
  name: string;
  dtype: keyof typeof sources;
  data: Uint8Array;
  /** Where `data` is not yet of `dtype`: it has this many rows of equal length, and `decode` makes some of them so. */
  encoded?: { rows: number; decode(data: Uint8Array): Uint8Array };
};

/** Bytes of a tensor that lie on the GPU at once, on their way into the packed layout. */
const sliceBytes = 8 * 2 ** 20;
/** Bytes handed to the queue before it is waited for: what is queued lies in the browser's memory. */
const queuedBytesLimit = 64 * 2 ** 20;

/** Packs one tensor after another; holds the buffers that all of them pass through. */
export type Packer = {
  /** A matrix (N, K) from tensors stacked along N (q‖k‖v, gate‖up). */
  pack(label: string, parts: readonly StoredRows[], inputSize: number, format: WeightFormat): Promise<PackedMatrix>;
  /** Frees the passing buffers. @returns the tensors with values that the format cannot hold. */
  finish(): Promise<string[]>;
};

export function createPacker(gpu: Gpu, tensorLimit: number): Packer {
  const source = createStorage(gpu, 'pack source', sliceBytes);
  const faults = createStorage(gpu, 'pack faults', tensorLimit * 4);
  const params = createBuffer(gpu, 'pack params', 32, usage.uniform | usage.copyDestination);
  const noScales = createStorage(gpu, 'no scales', 16);
  const names: string[] = [];
  let large: GPUBuffer | null = null; // for rows that do not fit into `source`
  let queuedBytes = 0;

  const sourceFor = (rowBytes: number): GPUBuffer => {
    if (rowBytes <= source.size) return source;
    if (large !== null && rowBytes > large.size) {
      destroyBuffer(gpu, large);
      large = null;
    }
    large ??= createStorage(gpu, 'pack large row', rowBytes);
    return large;
  };

  return {
    async pack(label, parts, inputSize, format) {
      const rowsOf = ({ dtype, data, encoded }: StoredRows) =>
        encoded?.rows ?? data.byteLength / bytesPerRow(dtype, inputSize);
      const outputSize = parts.reduce((sum, part) => sum + rowsOf(part), 0);
      const { segments, segmentWords } = segmentsOf(inputSize, format);
      const words = packedWords({ outputSize, inputSize }, format);
      const weight = createStorage(gpu, label, words * 16);
      const scales = format === 'f16' ? noScales : createStorage(gpu, `${label} scales`, words * 2);
      let firstRow = 0;
      for (const part of parts) {
        const tensor = names.push(part.name) - 1;
        const rowBytes = bytesPerRow(part.dtype, inputSize);
        const buffer = sourceFor(rowBytes);
        const bindGroup = createBindGroup(gpu, pack, { params, source: buffer, weight, scales, faults });
        const pipeline = await createPipeline(gpu, pack, { FORMAT: formatCodes[format], SOURCE: sources[part.dtype] });
        const sliceRows = Math.max(1, Math.floor(buffer.size / rowBytes));
        const rows = rowsOf(part);
        for (let row = 0; row < rows; row += sliceRows) {
          const count = Math.min(sliceRows, rows - row);
          const { queue } = gpu.device;
          const storedRowBytes = part.data.byteLength / rows;
          const slice = part.data.subarray(row * storedRowBytes, (row + count) * storedRowBytes);
          const bytes = part.encoded?.decode(slice) ?? slice;
          queue.writeBuffer(buffer, 0, bytes.buffer as ArrayBuffer, bytes.byteOffset, count * rowBytes);
          const fields = [inputSize, count, firstRow + row, segments, segmentWords, tensor];
          queue.writeBuffer(params, 0, Uint32Array.from(fields));
          const grid = foldedGrid(Math.ceil((count * segments * segmentWords) / workgroupSize));
          const step = { label: 'pack', bindGroup, pipeline: () => pipeline, grid: () => grid };
          submitPass(gpu, label, (pass) => encodeStep(pass, step, { rows: count, blocks: 0 }));
          queuedBytes += count * rowBytes;
          if (queuedBytes < queuedBytesLimit) continue;
          await gpuIdle(gpu);
          queuedBytes = 0;
        }
        firstRow += rows;
      }
      return { buffer: weight, scales, format, outputSize, inputSize, segments, segmentWords };
    },
    async finish() {
      const counts = new Uint32Array(await readBuffer(gpu, faults));
      for (const buffer of [source, faults, params, large]) if (buffer !== null) destroyBuffer(gpu, buffer);
      return names.filter((_, i) => (counts[i] as number) > 0);
    },
  };
}

function bytesPerRow(dtype: StoredRows['dtype'], inputSize: number): number {
  return inputSize * (dtype === 'F32' ? 4 : 2);
}
