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

/** Some bytes of one buffer, on their way to another. */
export type Copy = { from: GPUBuffer; fromBytes: number; to: GPUBuffer; toBytes: number; sizeBytes: number };

/** Submits copies, done in their order, as one command buffer. */
export function submitCopies(gpu: Gpu, label: string, copies: readonly Copy[]): void {
  const encoder = gpu.device.createCommandEncoder({ label });
  for (const { from, fromBytes, to, toBytes, sizeBytes } of copies) {
    encoder.copyBufferToBuffer(from, fromBytes, to, toBytes, sizeBytes);
  }
  gpu.device.queue.submit([encoder.finish()]);
}

/** Resolves when all submitted work is done; rejects with the device's failure. */
export async function gpuIdle(gpu: Gpu): Promise<void> {
  await Promise.race([gpu.device.queue.onSubmittedWorkDone(), gpu.failed]);
  if (gpu.failure !== null) throw gpu.failure;
}
