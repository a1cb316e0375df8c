/** Times of passes: repeated within one submit so that the sync does not count, interleaved, medians with spread. */
import { median } from '../../demo/measure.ts';
import type { Gpu } from '../../src/gpu/device.ts';
import type { Pass } from '../../src/gpu/kernel.ts';
import { gpuIdle, submitPass } from '../../src/gpu/submit.ts';

export type Timing = {
  /** Median over the samples. */
  ms: number;
  /** Of the fastest sample: nearer to the truth where other programs run beside. */
  leastMs: number;
  /** Median distance of the samples from their median, relative to it. */
  spread: number;
};

export type TimingOptions = {
  sampleCount: number;
  /** A sample repeats its pass until it takes this long. */
  sampleMs: number;
};

/** A GPU whose devices can tell when a pass began and ended, where they are able to. */
export function withTimestamps(gpu: GPU): GPU {
  const requestAdapter: GPU['requestAdapter'] = async (options) => {
    const adapter = await gpu.requestAdapter(options);
    if (!adapter?.features.has('timestamp-query')) return adapter;
    const requestDevice = adapter.requestDevice.bind(adapter);
    adapter.requestDevice = (descriptor) => requestDevice({ ...descriptor, requiredFeatures: ['timestamp-query'] });
    return adapter;
  };
  return { requestAdapter } as GPU;
}

/** Times of passes by the device's own clock: without what the host takes to encode them. */
function createTimestamps({ device }: Gpu) {
  const querySet = device.createQuerySet({ type: 'timestamp', count: 2 });
  const resolved = device.createBuffer({ size: 16, usage: 0x200 | 4 }); // query resolve, copy source
  const staging = device.createBuffer({ size: 16, usage: 1 | 8 }); // map read, copy destination
  return {
    /** In ms. */
    async time(encode: (pass: Pass) => void): Promise<number> {
      const encoder = device.createCommandEncoder();
      const timestampWrites = { querySet, beginningOfPassWriteIndex: 0, endOfPassWriteIndex: 1 };
      const pass = encoder.beginComputePass({ timestampWrites });
      encode(pass);
      pass.end();
      encoder.resolveQuerySet(querySet, 0, 2, resolved, 0);
      encoder.copyBufferToBuffer(resolved, 0, staging, 0, 16);
      device.queue.submit([encoder.finish()]);
      await staging.mapAsync(1);
      const [begin, end] = new BigUint64Array(staging.getMappedRange()) as unknown as [bigint, bigint];
      const nanoseconds = Number(end - begin);
      staging.unmap();
      return nanoseconds / 1e6;
    },
  };
}

/** Times every kind of pass, by the device's clock where it has one; each meets each moment of a machine that is not alone. */
export async function timePasses(
  gpu: Gpu,
  kinds: readonly ((pass: Pass) => void)[],
  { sampleCount, sampleMs }: TimingOptions,
): Promise<Timing[]> {
  const timestamps = gpu.device.features.has('timestamp-query') ? createTimestamps(gpu) : null;
  const time = async (encode: (pass: Pass) => void, repeats: number) => {
    await gpuIdle(gpu);
    const all = (pass: Pass) => {
      for (let i = 0; i < repeats; i++) encode(pass);
    };
    if (timestamps !== null) return (await timestamps.time(all)) / repeats;
    const start = performance.now();
    submitPass(gpu, 'bench sample', all);
    await gpuIdle(gpu);
    return (performance.now() - start) / repeats;
  };
  const repeats: number[] = [];
  for (const encode of kinds) {
    await time(encode, 1); // the first run of a pipeline may still compile
    let count = 1;
    // Grown step by step: a guess from a single pass would be mostly the sync.
    while (count < 4096) {
      const spent = (await time(encode, count)) * count;
      if (spent >= sampleMs) break;
      count = Math.min(4096, Math.ceil(count * Math.min(8, (1.2 * sampleMs) / Math.max(spent, 0.1))));
    }
    repeats.push(count);
  }
  const samples: number[][] = kinds.map(() => []);
  for (let sample = 0; sample < sampleCount; sample++) {
    for (const [i, encode] of kinds.entries()) samples[i]?.push(await time(encode, repeats[i] as number));
  }
  return samples.map(timingOf);
}

/** What samples of one thing, in ms, come to. */
export function timingOf(values: readonly number[]): Timing {
  const ms = median(values);
  return { ms, leastMs: Math.min(...values), spread: median(values.map((value) => Math.abs(value - ms))) / ms };
}

/** The adapter in a report's head. */
export const adapterLine = ({ adapter: { vendor, architecture, description } }: Gpu): string =>
  [vendor, architecture, description].filter(Boolean).join(' ');
