/** Aborts at 200 random moments, of loads and of requests: memory is back to what it was, and the next request is right. */
import { expect, it } from 'vitest';
import { closeGpu, openGpu } from '../../src/gpu/device.ts';
import { abortRuns } from '../gpu/abort_runs.ts';
import { embeddedSource, openEngine } from '../gpu/engine_bench.ts';
import { createRandom } from '../reference/random.ts';

const [target, draft] = [embeddedSource('stories-3m'), embeddedSource('stories-650k')];

it('40 loads aborted at random moments leave nothing', async () => {
  const random = createRandom(3);
  let aborted = 0;
  for (let i = 0; i < 40; i++) {
    const gpu = await openGpu();
    const abort = new AbortController();
    const loading = openEngine(target, draft, { signal: abort.signal }, gpu);
    const reason = new Error(`abort ${i}`);
    setTimeout(() => abort.abort(reason), random.integer(600));
    const error = await loading.then(
      async (engine) => engine.dispose(),
      (thrown: unknown) => thrown,
    );
    if (error !== undefined) {
      expect(error).toBe(reason);
      aborted += 1;
    }
    expect([gpu.bytes, gpu.buffers.size]).toEqual([0, 0]);
    closeGpu(gpu);
  }
  expect(aborted).toBeGreaterThan(5);
});

it('160 requests aborted at random moments: no byte more on the GPU, and the next one is right', async () => {
  const gpu = await openGpu();
  const engine = await openEngine(target, draft, {}, gpu);
  const bytes = gpu.bytes;
  await abortRuns(engine, 160, 17);
  expect(gpu.bytes).toBe(bytes);
  await engine.dispose();
});
