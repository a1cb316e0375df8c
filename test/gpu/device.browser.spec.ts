/** What only a browser's garbage collector shows. `gc` is there by the flags of test/browser.mjs. */
import { expect, it } from 'vitest';
import { closeGpu, openGpu } from '../../src/gpu/device.ts';

const collectGarbage = (globalThis as unknown as { gc: () => void }).gc;

it('a closed device tells that it is lost, even where nobody holds it', async () => {
  const closeOne = async () => {
    const gpu = await openGpu();
    closeGpu(gpu);
    return { lost: gpu.device.lost }; // in an object: the promise itself would be awaited here
  };
  const reasons: string[] = [];
  const timer = setInterval(collectGarbage, 1);
  for (let i = 0; i < 25; i++) {
    const { lost } = await closeOne();
    collectGarbage();
    reasons.push((await lost).reason);
  }
  clearInterval(timer);
  expect(reasons).toEqual(Array(25).fill('destroyed'));
}, 30_000);
