/** Requests beside each other: each writes what it writes alone, and finds what an earlier one of its own left behind. */
import { expect, it } from 'vitest';
import type { GenerateOptions } from '../../src/types.ts';
import { embeddedPrompts, embeddedSource, openEngine } from './engine_bench.ts';

it('four at a time take turns, with the tokens that each has alone; the fifth waits; turns find their own beginning', async () => {
  const engine = await openEngine(embeddedSource('stories-3m'), embeddedSource('stories-650k'));
  const prompts = (await embeddedPrompts()).slice(2, 7);
  const kinds: GenerateOptions[] = [
    { draftLength: 3, maxNewTokens: 9 },
    { draftLength: 0, maxNewTokens: 7 },
    { temperature: 0.8, seed: 3, draftLength: 2, maxNewTokens: 7 },
    { repetitionPenalty: 1.3, logprobs: true, topLogprobs: 2, maxNewTokens: 6 },
    { draftLength: 7, maxNewTokens: 5 },
  ];
  /** Which request each round was of, in the order of arrival. */
  const arrivals: number[] = [];
  const together = kinds.map(async (options, i) => {
    const run = engine.generate(prompts[i] as number[], options);
    for await (const _ of run) arrivals.push(i);
    return run.result;
  });
  const results = await Promise.all(together);
  const firstOf = (i: number) => arrivals.indexOf(i);
  const lastOf = (i: number) => arrivals.lastIndexOf(i);
  // All four had begun before one had ended, and only then began the fifth.
  const ends = [0, 1, 2, 3].map(lastOf);
  expect(Math.max(...[0, 1, 2, 3].map(firstOf))).toBeLessThan(Math.min(...ends));
  expect(firstOf(4)).toBeGreaterThan(Math.min(...ends));

  // The next turn of each, then all of it alone.
  const turns = results.slice(1, 3).map(({ tokens }, i) => [...(prompts[i + 1] as number[]), ...tokens, 11, 12]);
  const next = await Promise.all(turns.map((turn) => engine.generate(turn, { maxNewTokens: 6 }).result));
  for (const [i, { meta_info: meta }] of next.entries()) {
    expect(meta.cached_tokens).toBe((turns[i] as number[]).length - 3);
  }
  for (const [i, { tokens, logprobs }] of results.entries()) {
    const alone = await engine.generate(prompts[i] as number[], kinds[i]).result;
    expect({ i, tokens, logprobs }).toEqual({ i, tokens: alone.tokens, logprobs: alone.logprobs });
  }
  await engine.measureCosts({ sampleCount: 1 }); // forgets
  for (const [i, { tokens }] of next.entries()) {
    const cold = await engine.generate(turns[i] as number[], { draftLength: 0, maxNewTokens: 6 }).result;
    expect(cold.meta_info.cached_tokens).toBeLessThan(2); // the start token
    expect(tokens).toEqual(cold.tokens);
  }
});
