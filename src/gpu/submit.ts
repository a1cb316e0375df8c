import type { Gpu } from './device.ts';

/** What a submit copies to a staging buffer, one source behind the other. */
export type Readback = {
  destination: GPUBuffer;
  sources: readonly { buffer: GPUBuffer; startBytes: number; sizeBytes: number }[];
};

/** Encodes one compute pass (and, behind it, copies to a staging buffer) and submits it as one command buffer. */
export function submitPass(
  gpu: Gpu,
  label: string,
  encode: (pass: GPUComputePassEncoder) => void,
  readback?: Readback,
): void {
  const encoder = gpu.device.createCommandEncoder({ label });
  const pass = encoder.beginComputePass({ label });
  encode(pass);
  pass.end();
  if (readback !== undefined) {
    let offset = 0;
    for (const { buffer, startBytes, sizeBytes } of readback.sources) {
      encoder.copyBufferToBuffer(buffer, startBytes, readback.destination, offset, sizeBytes);
      offset += sizeBytes;
    }
  }
  gpu.device.queue.submit([encoder.finish()]);
}

/** Resolves when all submitted work is done; rejects with the device's failure. */
export async function gpuIdle(gpu: Gpu): Promise<void> {
  await Promise.race([gpu.device.queue.onSubmittedWorkDone(), gpu.failed]);
  if (gpu.failure !== null) throw gpu.failure;
}
