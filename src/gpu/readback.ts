import { createBuffer, destroyBuffer, usage } from './buffers.ts';
import type { Gpu } from './device.ts';
import { promptly } from './submit.ts';

/** Staging buffers used in turn, so that a round can be submitted while the record of an earlier one is still mapped. */
export type StagingRing = { slots: GPUBuffer[]; next: number; sizeBytes: number };

/** `slotCount` must be at least rounds in flight + 1: a slot is unmapped before the submit that reuses it. */
export function createStagingRing(gpu: Gpu, label: string, slotCount: number, sizeBytes: number): StagingRing {
  const slots = Array.from({ length: slotCount }, (_, i) =>
    createBuffer(gpu, `${label} ${i}`, sizeBytes, usage.mapRead | usage.copyDestination),
  );
  return { slots, next: 0, sizeBytes };
}

/** The slot that the next submit copies into. */
export function takeSlot(ring: StagingRing): GPUBuffer {
  const slot = ring.slots[ring.next] as GPUBuffer;
  ring.next = (ring.next + 1) % ring.slots.length;
  return slot;
}

/** How long after a failed wait a device may tell that it is lost. */
const lostMs = 1000;

/** Maps a slot, copies its words out, unmaps it. Rejects with the device's failure if it is lost meanwhile. */
export async function readWords(
  gpu: Gpu,
  buffer: GPUBuffer,
  sizeBytes = buffer.size,
): Promise<Uint32Array<ArrayBuffer>> {
  try {
    // No race with `gpu.failed`: a lost device rejects the map, and each race would stay in that promise's memory.
    await promptly(gpu, buffer.mapAsync(1, 0, sizeBytes));
    if (gpu.failure !== null) throw gpu.failure;
  } catch (error) {
    // A lost device rejects maps before its `lost` promise settles, in Firefox by up to 0.2 s; let that one name the cause.
    if (gpu.failure === null) await Promise.race([gpu.failed, new Promise((resolve) => setTimeout(resolve, lostMs))]);
    throw error;
  }
  const words = new Uint32Array(buffer.getMappedRange(0, sizeBytes).slice(0));
  buffer.unmap();
  return words;
}

/** A wait for nothing that takes longer is no GPU's doing. */
const lateMs = 50;

/**
 * Finds out whether the browser sees late that work is done. Firefox looks ten times a second and whenever something is
 * submitted: a round would wait up to 100 ms for its record. There, whoever waits submits nothing again and again.
 */
export async function findLateWaits(gpu: Gpu): Promise<void> {
  const buffer = createBuffer(gpu, 'wait', 16, usage.mapRead | usage.copyDestination);
  const wait = async (): Promise<number> => {
    const start = performance.now();
    gpu.device.queue.submit([]);
    await readWords(gpu, buffer);
    return performance.now() - start;
  };
  /** A busy machine may be late once or twice. */
  const isLate = async (): Promise<boolean> => {
    for (let i = 0; i < 3; i++) if ((await wait()) <= lateMs) return false;
    return true;
  };
  try {
    gpu.pokes = null;
    // The first wait may begin at any moment between two looks, those behind it begin at a look.
    await wait();
    if (!(await isLate())) return;
    gpu.pokes = { waiting: 0, timer: null };
    if (await isLate()) gpu.pokes = null;
  } finally {
    destroyBuffer(gpu, buffer);
  }
}

/** Copies any buffer back. For load-time checks and tests: it creates a buffer, which nothing may do while generating. */
export async function readBuffer(gpu: Gpu, source: GPUBuffer, sizeBytes = source.size): Promise<ArrayBuffer> {
  const staging = createBuffer(gpu, `${source.label} readback`, sizeBytes, usage.mapRead | usage.copyDestination);
  try {
    const encoder = gpu.device.createCommandEncoder({ label: 'readback' });
    encoder.copyBufferToBuffer(source, 0, staging, 0, sizeBytes);
    gpu.device.queue.submit([encoder.finish()]);
    return (await readWords(gpu, staging, sizeBytes)).buffer;
  } finally {
    destroyBuffer(gpu, staging);
  }
}
