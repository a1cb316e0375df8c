/** A model of 1 GB on its way to the GPU: what JavaScript holds meanwhile, sampled. */
import { expect, it } from 'vitest';
import { packSliceBytes } from '../../src/kernels/pack.ts';
import { openModel, readWeights } from '../../src/model/load.ts';
import { uploadWeights, weightFormats } from '../../src/model/weights.ts';
import { device } from '../gpu/kernel_bench.ts';
import { syntheticModel } from '../reference/synthetic_model.ts';

/** Bytes of the heap and of array buffers, garbage that waits for its collection included. */
async function heldBytes(): Promise<number> {
  if ('process' in globalThis && globalThis.process.versions?.node) {
    const { heapUsed, arrayBuffers } = globalThis.process.memoryUsage();
    return heapUsed + arrayBuffers;
  }
  const { cdp } = await import('vitest/browser');
  const usage = (await cdp().send('Runtime.getHeapUsage')) as { usedSize: number; backingStorageSize: number };
  expect(usage.backingStorageSize).toBeGreaterThan(0);
  return usage.usedSize + usage.backingStorageSize;
}

it('a model of 1 GB takes a slice and 64 MiB', async () => {
  const model = syntheticModel({ hiddenSize: 2048, ffnSize: 8192, layerCount: 6, vocabSize: 49_152 });
  expect(model.sizeBytes).toBeGreaterThan(0.9e9);
  const opened = await openModel(model.source, 'target');
  const before = await heldBytes();
  let most = 0;
  let samples = 0;
  let sampledAt = 0;
  async function* sampled() {
    for await (const rows of readWeights(opened, 'target')) {
      yield rows;
      if (performance.now() - sampledAt < 50) continue;
      most = Math.max(most, (await heldBytes()) - before);
      samples += 1;
      sampledAt = performance.now();
    }
  }
  const weights = await uploadWeights(device(), 'target', opened, sampled(), weightFormats(opened, 'q8'));
  console.log(`${model.sizeBytes} bytes loaded, at most ${most} held in ${samples} samples`);
  expect(weights.sizeBytes).toBeGreaterThan(0.5e9);
  expect(samples).toBeGreaterThan(20);
  expect(most).toBeLessThan(64 * 2 ** 20 + packSliceBytes);
});
