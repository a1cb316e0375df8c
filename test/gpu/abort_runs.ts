/** Runs that end before their end, at random moments: what they had is right, and so is what comes after them. */
import { expect } from 'vitest';
import type { Engine } from '../../src/types.ts';
import { createRandom } from '../reference/random.ts';

const prompt = 'Once upon a time';
const maxNewTokens = 24;

/** Two at a time of `count` runs; four ways in turn: by the clock, left, by the signal in mid-loop, after the end. */
export async function abortRuns(engine: Engine, count: number, seed = 99): Promise<void> {
  const random = createRandom(seed);
  const reference = (await engine.generate(prompt, { maxNewTokens }).result).tokens;
  let aborted = 0;
  const abortOne = async (i: number): Promise<void> => {
    const abort = new AbortController();
    const run = engine.generate(prompt, { maxNewTokens, draftLength: i % 8, signal: abort.signal });
    const seen: number[] = [];
    const way = i % 4;
    const tokenCount = 1 + random.integer(10);
    // On a fast GPU the clock may come too late.
    if (way === 0) setTimeout(() => abort.abort(), random.integer(100));
    for await (const round of run) {
      seen.push(...round.tokens);
      if (way === 1 && seen.length >= tokenCount) break;
      if (way === 2 && seen.length >= tokenCount) abort.abort();
    }
    const { tokens, meta_info: meta } = await run.result;
    if (way === 3) abort.abort();
    if (meta.finish_reason.type === 'abort') aborted += 1;
    expect(tokens).toEqual(reference.slice(0, tokens.length));
    expect(seen).toEqual(way === 1 ? tokens.slice(0, seen.length) : tokens);
  };
  const places = [0, 1].map(async (place) => {
    for (let i = place; i < count; i += 2) await abortOne(i);
  });
  await Promise.all(places);
  expect(aborted).toBeGreaterThan(count * 0.4);
  expect((await engine.generate(prompt, { maxNewTokens }).result).tokens).toEqual(reference);
}
