/** What passes cost, measured at two lengths without feeding either: it must be at these lengths, and leave nothing behind. */
import { expect, it } from 'vitest';
import { countCalls } from './count_calls.ts';
import { embeddedPrompts, embeddedSource, openEngine } from './engine_bench.ts';

const openPair = (options: Parameters<typeof openEngine>[2] = {}) =>
  openEngine(embeddedSource('stories-3m'), embeddedSource('stories-650k'), options);

it('a long context costs more, and the tokens after measuring are those before', async () => {
  const engine = await openPair({ maxRunningRequests: 2, costs: null });
  const [first, second] = (await embeddedPrompts()).slice(2, 4) as [number[], number[]];
  // Over a page each, so that either slot has pages of its own.
  const prompts = [first, second].map((tokens) => Array.from({ length: 90 }, (_, i) => tokens[i % tokens.length] ?? 0));
  const generate = (draftLength: number) =>
    Promise.all(prompts.map((prompt) => engine.generate(prompt, { draftLength, maxNewTokens: 24 }).result));
  const before = await generate(3);
  let report = engine.info.costs;
  const { blocks } = await countCalls(async () => {
    report = await engine.measureCosts({ sampleCount: 3 });
  });
  for (const costs of [engine.info.costs, report]) {
    expect(costs).toMatchObject({ committedLength: 48, longContext: { committedLength: 1015 } });
    const { v, targetStepMs, longContext } = costs as NonNullable<typeof costs>;
    expect(longContext?.v).toHaveLength(v.length);
    expect(longContext?.v[0]).toBe(1);
    expect(longContext?.c).toBeGreaterThan(0);
    // At least as much, but for noise.
    expect((longContext?.targetStepMs as number) / targetStepMs).toBeGreaterThan(0.7);
  }
  // 48 tokens and 8 rows behind them, 1,015 and 8: of 64 positions.
  expect(new Set(blocks)).toEqual(new Set([1, 16]));

  for (const draftLength of [3, 0]) {
    const after = await generate(draftLength);
    expect(after.map(({ tokens }) => tokens)).toEqual(before.map(({ tokens }) => tokens));
    // The caches hold nothing of before; what the second call of this loop finds is of the first.
    if (draftLength === 3) expect(after.map(({ meta_info: meta }) => meta.cached_tokens)).toEqual([0, 0]);
  }
});

it('where no long context fits, there is none', async () => {
  for (const [contextLength, long] of [
    [128, null],
    [256, 247],
  ] as const) {
    const engine = await openPair({ contextLength, costs: null });
    expect(engine.info.costs?.committedLength).toBe(48);
    expect(engine.info.costs?.longContext?.committedLength ?? null).toBe(long);
    expect((await engine.generate('Once', { maxNewTokens: 8 }).result).tokens).toHaveLength(8);
  }
});
