/** A device that only counts: whatever allocates on a real one tells on this one how many bytes it takes. */
import { freshRecords, type Gpu } from './device.ts';

export type CountingGpu = Gpu & {
  /** Every buffer that was made, freed ones included. */
  made: { label: string; sizeBytes: number }[];
  /** Most storage buffers that one kernel binds. */
  storageBuffers: number;
};

export function createCountingGpu(): CountingGpu {
  const made: CountingGpu['made'] = [];
  const device = {
    limits: { maxBufferSize: Infinity, maxStorageBufferBindingSize: Infinity },
    queue: { writeBuffer() {}, submit() {} },
    createBuffer({ label, size }: GPUBufferDescriptor) {
      made.push({ label: label ?? '', sizeBytes: size });
      return { label, size, destroy() {} };
    },
    createBindGroupLayout({ entries }: { entries: readonly GPUBindGroupLayoutEntry[] }) {
      const count = entries.filter(({ buffer }) => buffer?.type !== 'uniform').length;
      gpu.storageBuffers = Math.max(gpu.storageBuffers, count);
      return {};
    },
    createBindGroup: () => ({}),
    createPipelineLayout: () => ({}),
    createShaderModule: () => ({}),
    createComputePipelineAsync: async () => ({}),
  };
  const gpu: CountingGpu = {
    device: device as unknown as GPUDevice,
    adapter: { vendor: '', architecture: '', device: '', description: '' },
    ...freshRecords(),
    failed: new Promise(() => {}),
    made,
    storageBuffers: 0,
  };
  return gpu;
}
