/** Allocations that fail while an engine loads: a typed error, and nothing is left. */
import { expect, it } from 'vitest';
import { DeviceError } from '../../src/errors.ts';
import { openGpu } from '../../src/gpu/device.ts';
import { randomModel } from '../reference/random_model.ts';
import { failAllocations } from './allocation.ts';
import { memorySource, openEngine, randomFolder } from './engine_bench.ts';

// All of them: test/nightly.
it('some of the allocations of a load, one after another', async () => {
  await failAllocations((total) => Math.ceil(total / 6));
});

it('what a real device refuses is a DeviceError that says why', async () => {
  const gpu = await openGpu();
  const { createBuffer } = gpu.device;
  let count = 0;
  gpu.device.createBuffer = (descriptor) => {
    count += 1;
    // No device has so much.
    const size = count === 30 ? 2 ** 40 : descriptor.size;
    return createBuffer.call(gpu.device, { ...descriptor, size });
  };
  const error = await openEngine(
    memorySource('small', randomFolder(randomModel({}, 5))),
    null,
    { contextLength: 64 },
    gpu,
  ).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(DeviceError);
  expect((error as Error).message).toMatch(/The GPU device reported an error/);
  expect([gpu.bytes, gpu.buffers.size]).toEqual([0, 0]);
});
