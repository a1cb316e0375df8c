import type { Gpu } from './device.ts';
import { countDispatches, type Pass } from './kernel.ts';

/** What a submit copies to a staging buffer, one source behind the other. */
export type Readback = {
  destination: GPUBuffer;
  sources: readonly { buffer: GPUBuffer; startBytes: number; sizeBytes: number }[];
};

/**
 * Encodes steps and, behind them, copies to a staging buffer, and submits them: as one command buffer, or on a slow device
 * as several of about as many dispatches, between which others (the page's own frames) get their turn.
 */
export function submitPass(
  gpu: Gpu,
  label: string,
  encode: (pass: Pass) => void,
  readback?: Readback,
  submits = 1,
): void {
  const { device } = gpu;
  const begin = (name: string) => {
    const encoder = device.createCommandEncoder({ label: name });
    return { encoder, pass: encoder.beginComputePass({ label: name }) };
  };
  let open = begin(label);
  if (submits === 1) encode(open.pass);
  else {
    const most = Math.ceil(countDispatches(encode) / submits);
    let count = 0;
    encode({
      // The first that a step sets.
      setPipeline(pipeline) {
        if (count === most) {
          open.pass.end();
          device.queue.submit([open.encoder.finish()]);
          open = begin(`${label}, continued`);
          count = 0;
        }
        count += 1;
        open.pass.setPipeline(pipeline);
      },
      setBindGroup: (index, group) => open.pass.setBindGroup(index, group),
      dispatchWorkgroups: (x, y, z) => open.pass.dispatchWorkgroups(x, y, z),
    });
  }
  const { encoder, pass } = open;
  pass.end();
  if (readback !== undefined) {
    let offset = 0;
    for (const { buffer, startBytes, sizeBytes } of readback.sources) {
      encoder.copyBufferToBuffer(buffer, startBytes, readback.destination, offset, sizeBytes);
      offset += sizeBytes;
    }
  }
  device.queue.submit([encoder.finish()]);
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

/** Timers are no faster; in workers of Firefox it comes to 4. */
const pokeMs = 1;

/** Waits for work that was submitted. Pokes the browser meanwhile, where `findLateWaits` found that it sleeps. */
export async function promptly<T>(gpu: Gpu, work: Promise<T>): Promise<T> {
  const { pokes } = gpu;
  if (pokes === null) return work;
  const stop = () => {
    if (pokes.timer !== null) clearInterval(pokes.timer);
    pokes.timer = null;
  };
  const poke = () => {
    // Work of a lost device may never be done.
    if (gpu.failure === null) gpu.device.queue.submit([]);
    else stop();
  };
  pokes.waiting += 1;
  pokes.timer ??= setInterval(poke, pokeMs);
  try {
    return await work;
  } finally {
    pokes.waiting -= 1;
    if (pokes.waiting === 0) stop();
  }
}

/** Resolves when all submitted work is done; rejects with the device's failure. */
export async function gpuIdle(gpu: Gpu): Promise<void> {
  await Promise.race([promptly(gpu, gpu.device.queue.onSubmittedWorkDone()), gpu.failed]);
  if (gpu.failure !== null) throw gpu.failure;
}
