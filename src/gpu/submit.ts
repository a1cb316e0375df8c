import type { Gpu } from './device.ts';

/** Encodes one compute pass (and, behind it, one copy to a staging buffer) and submits it as one command buffer. */
export function submitPass(
  gpu: Gpu,
  label: string,
  encode: (pass: GPUComputePassEncoder) => void,
  copy?: { source: GPUBuffer; destination: GPUBuffer; sizeBytes: number },
): void {
  const encoder = gpu.device.createCommandEncoder({ label });
  const pass = encoder.beginComputePass({ label });
  encode(pass);
  pass.end();
  if (copy !== undefined) encoder.copyBufferToBuffer(copy.source, 0, copy.destination, 0, copy.sizeBytes);
  gpu.device.queue.submit([encoder.finish()]);
}

/** Resolves when all submitted work is done; rejects with the device's failure. */
export async function gpuIdle(gpu: Gpu): Promise<void> {
  await Promise.race([gpu.device.queue.onSubmittedWorkDone(), gpu.failed]);
  if (gpu.failure !== null) throw gpu.failure;
}
