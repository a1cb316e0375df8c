import { expect, test, vi } from 'vitest';
import { freshRecords, type Gpu } from '../../../src/gpu/device.ts';
import { findLateWaits, readWords } from '../../../src/gpu/readback.ts';
import { gpuIdle, promptly } from '../../../src/gpu/submit.ts';

/** A browser that looks for finished work every `everyMs`, and whenever something is submitted if it `seesSubmits`. */
function sleepy(everyMs: number, seesSubmits: boolean) {
  const waiting: (() => void)[] = [];
  let submits = 0;
  // What is asked for is done a moment later; then someone must look.
  const look = () => {
    for (const done of waiting.splice(0)) done();
  };
  const done = () =>
    new Promise<undefined>((resolve) => {
      setTimeout(() => waiting.push(() => resolve(undefined)), 0.5);
    });
  const timer = setInterval(look, everyMs);
  const device = {
    limits: { maxBufferSize: 1024, maxStorageBufferBindingSize: 1024 },
    createBuffer: ({ size }: GPUBufferDescriptor) => ({
      size,
      mapAsync: done,
      getMappedRange: () => new ArrayBuffer(16),
      unmap() {},
      destroy() {},
    }),
    queue: {
      submit() {
        submits += 1;
        if (seesSubmits) look();
      },
      onSubmittedWorkDone: done,
    },
  };
  const gpu = { ...freshRecords(), device, failed: new Promise(() => {}) } as unknown as Gpu;
  return { gpu, submits: () => submits, end: () => clearInterval(timer) };
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

test('where work is seen late, whoever waits pokes, and nobody else does', async () => {
  const { gpu, submits, end } = sleepy(120, true);
  await findLateWaits(gpu);
  expect(gpu.pokes).toEqual({ waiting: 0, timer: null });
  expect(gpu.buffers.size).toBe(0);
  const start = performance.now();
  for (let i = 0; i < 10; i++) {
    await Promise.all([readWords(gpu, gpu.device.createBuffer({ size: 16, usage: 0 })), gpuIdle(gpu)]);
  }
  expect(performance.now() - start).toBeLessThan(600);
  const count = submits();
  await pause(50);
  expect(submits()).toBe(count);
  end();
});

test('where work is seen soon, or no poke helps, nobody pokes', async () => {
  for (const [everyMs, seesSubmits] of [
    [1, true],
    [120, false],
  ] as const) {
    const { gpu, submits, end } = sleepy(everyMs, seesSubmits);
    await findLateWaits(gpu);
    expect(gpu.pokes).toBeNull();
    const count = submits();
    await gpuIdle(gpu);
    expect(submits()).toBe(count);
    end();
  }
});

test('a device that is lost is poked no more, even if what it was told to do is never done', async () => {
  vi.useFakeTimers();
  const { gpu, submits, end } = sleepy(120, false);
  gpu.pokes = { waiting: 0, timer: null };
  void promptly(gpu, new Promise(() => {}));
  vi.advanceTimersByTime(10);
  expect(submits()).toBeGreaterThan(5);
  const count = submits();
  gpu.failure = new Error('the device was lost');
  vi.advanceTimersByTime(50);
  expect(submits()).toBe(count);
  expect(gpu.pokes.timer).toBeNull();
  end();
  vi.useRealTimers();
});

test('a wait that fails stops poking', async () => {
  vi.useFakeTimers();
  const { gpu, submits, end } = sleepy(120, false);
  gpu.pokes = { waiting: 0, timer: null };
  const buffer = { size: 16, mapAsync: () => Promise.reject(new Error('lost')) } as unknown as GPUBuffer;
  gpu.failure = new Error('the device was lost');
  await expect(readWords(gpu, buffer)).rejects.toThrow('lost');
  expect(gpu.pokes).toEqual({ waiting: 0, timer: null });
  vi.advanceTimersByTime(50);
  expect(submits()).toBe(0);
  end();
  vi.useRealTimers();
});
