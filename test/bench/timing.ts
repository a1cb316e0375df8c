/** Times of passes: repeated within one submit so that the sync does not count, interleaved, medians with spread. */
import { median } from '../../demo/measure.ts';
import type { Gpu } from '../../src/gpu/device.ts';
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
  /** In ms; default wall time. CPU time says more where a software adapter shares its cores. */
  clock?: () => number;
};

/** Times every kind of pass; each meets each moment of a machine that is not alone. */
export async function timePasses(
  gpu: Gpu,
  kinds: readonly ((pass: GPUComputePassEncoder) => void)[],
  { sampleCount, sampleMs, clock = () => performance.now() }: TimingOptions,
): Promise<Timing[]> {
  const time = async (encode: (pass: GPUComputePassEncoder) => void, repeats: number) => {
    await gpuIdle(gpu);
    const start = clock();
    submitPass(gpu, 'bench sample', (pass) => {
      for (let i = 0; i < repeats; i++) encode(pass);
    });
    await gpuIdle(gpu);
    return (clock() - start) / repeats;
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
  return samples.map((values) => {
    const ms = median(values);
    return { ms, leastMs: Math.min(...values), spread: median(values.map((value) => Math.abs(value - ms))) / ms };
  });
}
