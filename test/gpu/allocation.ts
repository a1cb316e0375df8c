/** Loads of a small pair of which one allocation fails. */
import { expect } from 'vitest';
import { DeviceError } from '../../src/errors.ts';
import { freshRecords, type Gpu } from '../../src/gpu/device.ts';
import { randomModel } from '../reference/random_model.ts';
import { memorySource, openEngine, randomFolder } from './engine_bench.ts';
import { device } from './kernel_bench.ts';

const source = memorySource('small', randomFolder(randomModel({ num_hidden_layers: 1 }, 5)));

/** The file's device, whose pipelines stay compiled, as one of its own: its buffers, and its `failAt`th allocation fails. */
function failingGpu(failAt: number) {
  const { device: real, adapter, pipelines, layouts } = device();
  const live = new Set<GPUBuffer>();
  let allocationCount = 0;
  let fail: (error: Error) => void = () => {};
  const failed = new Promise<never>((_, reject) => {
    fail = reject;
  });
  failed.catch(() => {});
  const createBuffer = (descriptor: GPUBufferDescriptor): GPUBuffer => {
    const buffer = real.createBuffer(descriptor);
    live.add(buffer);
    const { destroy } = buffer;
    buffer.destroy = () => {
      live.delete(buffer);
      return destroy.call(buffer);
    };
    // Told as a device tells it: behind the call, which returns a buffer all the same.
    if (allocationCount === failAt) {
      queueMicrotask(() => {
        gpu.failure = new DeviceError(`Out of memory at ${descriptor.label}.`);
        fail(gpu.failure);
      });
    }
    allocationCount += 1;
    return buffer;
  };
  const own = { createBuffer, destroy() {} } as Partial<GPUDevice>;
  const proxy = new Proxy(real, {
    get(_, key) {
      if (key in own) return own[key as keyof typeof own];
      const value = real[key as keyof GPUDevice] as unknown;
      return typeof value === 'function' ? value.bind(real) : value;
    },
  });
  const gpu: Gpu = { ...freshRecords(), device: proxy, adapter, pipelines, layouts, failed };
  return { gpu, live, allocationCount: () => allocationCount };
}

/** Lets each `step`th allocation of a load fail, one after another: a typed error, and nothing is left. Returns how many there are. */
export async function failAllocations(step: (total: number) => number): Promise<number> {
  const whole = failingGpu(-1);
  const engine = await openEngine(source, source, { contextLength: 64 }, whole.gpu);
  const total = whole.allocationCount();
  expect(whole.live.size).toBeGreaterThan(50);
  await engine.dispose();
  expect([whole.live.size, whole.gpu.bytes]).toEqual([0, 0]);
  for (let failAt = 0; failAt < total; failAt += step(total)) {
    const { gpu, live, allocationCount } = failingGpu(failAt);
    const error = await openEngine(source, source, { contextLength: 64 }, gpu).catch((thrown: unknown) => thrown);
    expect(error).toBe(gpu.failure);
    expect(error).toBeInstanceOf(DeviceError);
    expect(allocationCount()).toBeGreaterThan(failAt);
    expect({ failAt, live: live.size, bytes: gpu.bytes }).toEqual({ failAt, live: 0, bytes: 0 });
  }
  return total;
}
