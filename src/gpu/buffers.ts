import { checkBindingSize, type Gpu } from './device.ts';

/** Creates a zeroed buffer that the engine accounts for and frees. `sizeBytes` is rounded up to 16. */
export function createBuffer(gpu: Gpu, label: string, sizeBytes: number, usage: GPUBufferUsageFlags): GPUBuffer {
  const size = Math.max(16, Math.ceil(sizeBytes / 16) * 16);
  checkBindingSize(gpu.device.limits, label, size);
  const buffer = gpu.device.createBuffer({ label, size, usage });
  gpu.buffers.add(buffer);
  gpu.bytes += size;
  return buffer;
}

/** Flags by number, because `GPUBufferUsage` is not a global in Node (server-side rendering imports this file). */
export const usage = { mapRead: 1, copySource: 4, copyDestination: 8, uniform: 64, storage: 128 } as const;

/** Storage that shaders read and write, and that tests and the record copy may read back. */
export function createStorage(gpu: Gpu, label: string, sizeBytes: number): GPUBuffer {
  return createBuffer(gpu, label, sizeBytes, usage.storage | usage.copySource | usage.copyDestination);
}

/** Storage with initial contents. */
export function createStorageFrom(gpu: Gpu, label: string, data: ArrayBufferView<ArrayBuffer>): GPUBuffer {
  const buffer = createStorage(gpu, label, data.byteLength);
  gpu.device.queue.writeBuffer(buffer, 0, data.buffer, data.byteOffset, data.byteLength);
  return buffer;
}

/** Uniform parameters of one dispatch, fixed at load: one 4-byte word a field, floats given by `{ f32: x }`. */
export function createParams(gpu: Gpu, label: string, fields: readonly (number | { f32: number })[]): GPUBuffer {
  const words = new Uint32Array(Math.ceil(fields.length / 4) * 4);
  const floats = new Float32Array(words.buffer);
  fields.forEach((field, index) => {
    if (typeof field === 'number') words[index] = field;
    else floats[index] = field.f32;
  });
  const buffer = createBuffer(gpu, label, words.byteLength, usage.uniform | usage.copyDestination);
  gpu.device.queue.writeBuffer(buffer, 0, words);
  return buffer;
}

/** Frees one buffer. */
export function destroyBuffer(gpu: Gpu, buffer: GPUBuffer): void {
  if (!gpu.buffers.delete(buffer)) return;
  gpu.bytes -= buffer.size;
  buffer.destroy();
}

/** Does work whose buffers nobody needs afterwards: those that came to be meanwhile are destroyed, parameters of steps too. */
export async function withTemporaries<T>(gpu: Gpu, work: () => Promise<T>): Promise<T> {
  const before = new Set(gpu.buffers);
  try {
    return await work();
  } finally {
    for (const buffer of gpu.buffers) if (!before.has(buffer)) destroyBuffer(gpu, buffer);
  }
}
