/** Requests that share rounds: random ones of every kind, and what sharing is worth. */
import { describe, expect, it } from 'vitest';
import { openGpu } from '../../src/gpu/device.ts';
import type { Engine, GenerateOptions } from '../../src/types.ts';
import { embeddedPrompts, embeddedSource, openEngine } from '../gpu/engine_bench.ts';
import { randomRequest } from '../gpu/seeded_grid.ts';
import { createRandom } from '../reference/random.ts';

const pair = [embeddedSource('stories-3m'), embeddedSource('stories-650k')] as const;

describe.each([1, 2, 4, 8])('batches of %i random requests', (size) => {
  it('write what each writes alone, however they arrive', async () => {
    const random = createRandom(size);
    const options = { maxRunningRequests: size };
    // On a device of its own, which ends with it.
    const engine = await openEngine(pair[0], pair[1], options, await openGpu());
    for (let batch = 0; batch < 3; batch++) {
      const requests = Array.from({ length: size }, (_, i) => {
        const { prompt, options } = randomRequest(size * 100 + batch * 10 + i, 4 + random.integer(24));
        return { prompt, options: { ...options, draftLength: random.integer(8) } };
      });
      const running = requests.map(async ({ prompt, options }) => {
        await new Promise((resolve) => setTimeout(resolve, random.integer(300)));
        return engine.generate(prompt, options).result;
      });
      const together = await Promise.all(running);
      for (const [i, { prompt, options }] of requests.entries()) {
        const { tokens } = await engine.generate(prompt, options).result;
        expect({ batch, i, tokens: together[i]!.tokens }).toEqual({ batch, i, tokens });
      }
    }
    await engine.dispose();
  });
});

/** Times of four requests one after another / at once, in turns: the median. */
async function gainOf(engine: Engine, options: GenerateOptions): Promise<number> {
  const prompts = (await embeddedPrompts()).slice(2, 6);
  const ask = (prompt: number[]) => engine.generate(prompt, { ...options, maxNewTokens: 48, ignoreEos: true }).result;
  const timed = async (work: () => Promise<unknown>): Promise<number> => {
    const start = performance.now();
    await work();
    return performance.now() - start;
  };
  const gains: number[] = [];
  for (let repeat = 0; repeat < 7; repeat++) {
    const apart = await timed(async () => {
      for (const prompt of prompts) await ask(prompt);
    });
    const together = await timed(() => Promise.all(prompts.map(ask)));
    gains.push(apart / together);
  }
  gains.sort((a, b) => a - b);
  console.log(`k = ${options.draftLength}: ${gains.map((gain) => gain.toFixed(2)).join(', ')}`);
  return gains[gains.length >> 1] as number;
}

it('four requests at once take less time than one after another', async () => {
  const engine = await openEngine(...pair);
  expect(await gainOf(engine, { draftLength: 0 })).toBeGreaterThan(1.4);
  expect(await gainOf(engine, { draftLength: 3 })).toBeGreaterThan(0.95);
});
