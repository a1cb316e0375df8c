/** Of the two kernels for few rows the faster one serves, and nothing but time tells which. */
import { expect, it } from 'vitest';
import { fasterKernels } from '../../src/model/tune.ts';
import type { Engine } from '../../src/types.ts';
import { createRandom } from '../reference/random.ts';
import { embeddedPrompts, embeddedSource, openEngine } from './engine_bench.ts';
import { device, packed, withShaders } from './kernel_bench.ts';

/** Makes each run of a kernel do its work many times over, for the same output. */
const slowed = (kernel: string) => (label: string, code: string) =>
  label.startsWith(`${kernel} `)
    ? code
        .replace('step < ', 'step < select(1u, 40u, rows.rowCount > 0u) * ')
        .replace(/weight\[(index[AB])\]/g, 'weight[$1 % arrayLength(&weight)]')
    : code;

it('is found by timing both, and leaves no buffer behind', async () => {
  const inputSize = 256;
  const matrix = await packed(createRandom(3).normals(1024 * inputSize, 0.1), inputSize, 'q8');
  const before = device().bytes;
  for (const [slow, faster] of [
    ['matmul_lane', 'workgroup'],
    ['matmul_rows', 'lane'],
  ] as const) {
    let count = 0;
    const rewrite = (label: string, code: string) => {
      const changed = slowed(slow)(label, code);
      if (changed !== code) count += 1;
      return changed;
    };
    expect(await withShaders(rewrite, () => fasterKernels(device(), matrix))).toBe(faster);
    expect(count).toBe(2); // its pipelines of 1 and 4 rows
  }
  expect(device().bytes).toBe(before);
});

it('an engine says which it took; drafts, prompts and samples are the same with either', async () => {
  const [target, draft] = [embeddedSource('stories-3m'), embeddedSource('stories-650k')];
  const engines: Engine[] = [];
  // One after the other: what a self-test makes on a shared device is told by what was there before it.
  const sizes: number[] = [];
  for (const kernelKind of ['workgroup', 'lane'] as const) {
    const before = device().bytes;
    engines.push(await openEngine(target, draft, { kernelKind }));
    sizes.push(device().bytes - before);
  }
  expect(engines.map(({ info }) => info.kernelKind)).toEqual(['workgroup', 'lane']);
  expect(sizes[1]).toBe(sizes[0]); // what checkModel foretells
  const prompts = await embeddedPrompts();
  for (const [i, options] of [{}, { temperature: 1, seed: 5 }, { temperature: 0.8, seed: 6, topP: 0.9 }].entries()) {
    const texts = engines.map(async (engine) => {
      const runs = [0, 4, 7].map(
        (draftLength) =>
          engine.generate(prompts[i + 17] as number[], { ...options, draftLength, maxNewTokens: 24 }).result,
      );
      return (await Promise.all(runs)).map(({ tokens }) => tokens.join());
    });
    expect(new Set((await Promise.all(texts)).flat()).size).toBe(1);
  }
});
