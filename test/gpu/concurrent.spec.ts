/** Requests that share rounds: each writes what it writes alone, and finds what an earlier one of its own left behind. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { EngineEvents } from '../../src/event_types.ts';
import type { Engine, GenerateOptions } from '../../src/types.ts';
import { randomModel } from '../reference/random_model.ts';
import {
  embeddedShape,
  memorySource,
  openEngine,
  randomFolder,
  withoutLastLayer,
  withSeedWords,
} from './engine_bench.ts';

it('four share rounds, with the tokens that each has alone; the fifth waits; turns find their own beginning', async () => {
  const target = randomModel({ ...embeddedShape, vocab_size: 600 }, 92);
  const engine = await openEngine(
    memorySource('target', randomFolder(target)),
    memorySource('draft', randomFolder(withoutLastLayer(target))),
  );
  const prompts = [9, 14, 5, 11, 8].map((length, i) => Array.from({ length }, (_, j) => 20 + 30 * i + 2 * j));
  const kinds = [
    { draftLength: 3, maxNewTokens: 16 },
    { temperature: 0.9, draftLength: 3, maxNewTokens: 14 },
    { temperature: 0.8, seed: 3, draftLength: 2, maxNewTokens: 7 },
    { repetitionPenalty: 1.3, logprobs: true, topLogprobs: 2, draftLength: 0, maxNewTokens: 6 },
    { draftLength: 7, maxNewTokens: 5, logprobs: true },
  ].map((options): GenerateOptions => ({ ...options, ignoreEos: true }));
  const heard = { round: [], request: [], batch: [] } as { [Name in keyof EngineEvents]: EngineEvents[Name][] };
  engine.on('round', (event) => heard.round.push(event));
  engine.on('request', (event) => heard.request.push(event));
  engine.on('batch', (event) => heard.batch.push(event));
  /** Which request each round was of, in the order of arrival. */
  const arrivals: number[] = [];
  const seedWords = [5, 6] as const;
  const results = await withSeedWords(seedWords, () =>
    Promise.all(
      kinds.map(async (options, i) => {
        const run = engine.generate(prompts[i] as number[], options);
        for await (const _ of run) arrivals.push(i);
        return run.result;
      }),
    ),
  );
  const firstOf = (i: number) => arrivals.indexOf(i);
  const lastOf = (i: number) => arrivals.lastIndexOf(i);
  // All four had begun before one had ended, and only then began the fifth.
  const ends = [0, 1, 2, 3].map(lastOf);
  expect(Math.max(...[0, 1, 2, 3].map(firstOf))).toBeLessThan(Math.min(...ends));
  expect(firstOf(4)).toBeGreaterThan(Math.min(...ends));

  // The next turn of two whose slots the fifth did not get, then all of it alone.
  const turns = results.slice(0, 2).map(({ tokens }, i) => [...(prompts[i] as number[]), ...tokens, 11, 12]);
  const next = await Promise.all(turns.map((turn) => engine.generate(turn, { maxNewTokens: 6 }).result));
  for (const [i, { meta_info: meta }] of next.entries()) {
    expect(meta.cached_tokens).toBe((turns[i] as number[]).length - 3);
  }
  for (const [i, { tokens, logprobs }] of results.entries()) {
    const alone = await withSeedWords(
      seedWords,
      () => engine.generate(prompts[i] as number[], kinds[i] as GenerateOptions).result,
    );
    expect({ i, tokens, logprobs }).toEqual({ i, tokens: alone.tokens, logprobs: alone.logprobs });
  }
  await engine.measureCosts({ sampleCount: 1 }); // forgets
  for (const [i, { tokens }] of next.entries()) {
    const cold = await engine.generate(turns[i] as number[], { draftLength: 0, maxNewTokens: 6 }).result;
    expect(cold.meta_info.cached_tokens).toBeLessThan(2); // the start token
    expect(tokens).toEqual(cold.tokens);
  }

  // What was told of all this is what the results say, and a window is the sum of its 40 rounds.
  for (const { meta_info: meta, stats, tokens } of results) {
    expect(heard.request).toContainEqual({ meta_info: meta, stats });
    const records = heard.round.flatMap((event) => event.records.filter(({ id }) => id === meta.id));
    const sumOf = (key: 'tokenCount' | 'acceptedCount') => records.reduce((sum, record) => sum + record[key], 0);
    expect([sumOf('tokenCount'), sumOf('acceptedCount')]).toEqual([tokens.length, stats.acceptedCount]);
    expect(new Set(records.map(({ slot }) => slot)).size).toBe(1);
  }
  const decoded = heard.round.map(({ records }) => records.filter(({ phase }) => phase !== 'prefill'));
  const window = decoded
    .filter(({ length }) => length > 0)
    .slice(0, 40)
    .flat();
  const verified = window.filter(({ phase }) => phase === 'verify');
  expect(heard.batch[0]).toMatchObject({
    batchCount: 40,
    verifyCount: verified.length,
    draftedCount: verified.reduce((sum, { draftLength }) => sum + draftLength, 0),
    acceptedCount: verified.reduce((sum, { acceptedCount }) => sum + acceptedCount, 0),
  });
  expect(decoded.some(({ length }) => length === 4)).toBe(true);
});

describe('a context of 1,200 tokens', () => {
  let engine: Engine;
  /** Of the passes submitted. */
  const labels: string[] = [];
  const count = (wanted: string) => labels.filter((label) => label === wanted).length;
  const { createCommandEncoder } = GPUDevice.prototype;
  const tokens = Array.from({ length: 1000 }, (_, i) => (i * 7) % 200);
  beforeAll(async () => {
    const model = randomModel({ max_position_embeddings: 1200 }, 91);
    engine = await openEngine(memorySource('long', randomFolder(model)), null);
    GPUDevice.prototype.createCommandEncoder = function (descriptor) {
      const label = descriptor?.label ?? '';
      // Where the device is slow a pass is several submits.
      if (!label.endsWith(', continued')) labels.push(label);
      return createCommandEncoder.call(this, descriptor);
    };
  });
  afterAll(() => {
    GPUDevice.prototype.createCommandEncoder = createCommandEncoder;
  });
  const forget = () => engine.measureCosts({ sampleCount: 1 });

  it('lets a short request beside a prompt of 1,000 tokens wait for no more than a few of its chunks', async () => {
    const long = engine.generate(tokens, { maxNewTokens: 2, ignoreEos: true }).result;
    await new Promise((resolve) => setTimeout(resolve));
    const before = labels.length;
    await engine.generate([5, 6, 7], { maxNewTokens: 4, ignoreEos: true }).result;
    // A long prompt's last chunk and a short one's only one have the same label.
    const chunks = count('target prefill');
    const waited = labels.slice(before).indexOf('prefill');
    expect(waited).toBeGreaterThanOrEqual(0);
    expect(waited).toBeLessThanOrEqual(engine.info.roundsInFlight + 1);
    expect(chunks).toBeLessThan(12); // of 16: the short one ended before the long one was fed
    await long;
    expect(count('target prefill')).toBe(15);
  });

  it('feeds once what several prompts begin with', async () => {
    const prompt = tokens.slice(0, 150).map((token) => token + 1);
    const other = [...prompt.slice(0, 100), 3, 4, 5];
    const ask = (tokens: number[], seed: number) =>
      engine.generate(tokens, { maxNewTokens: 8, ignoreEos: true, temperature: 1, seed }).result;
    labels.length = 0;
    const samples = await Promise.all([...[1, 2, 3].map((seed) => ask(prompt, seed)), ask(other, 4)]);
    expect(samples.map(({ meta_info: meta }) => meta.cached_tokens)).toEqual([0, 149, 149, 100]);
    expect([count('target prefill'), count('prefill'), count('page copy')]).toEqual([2, 4, 3]);
    expect(new Set(samples.slice(0, 3).map((sample) => String(sample.tokens))).size).toBe(3);
    for (const i of [1, 3]) {
      await forget();
      const alone = await ask(i < 3 ? prompt : other, i + 1);
      expect(alone.meta_info.cached_tokens).toBe(0);
      expect({ i, tokens: samples[i]?.tokens }).toEqual({ i, tokens: alone.tokens });
    }
  });

  it('begins a second turn on 500 tokens at least five times sooner, with the same text', async () => {
    const ask = async (prompt: number[]) => {
      labels.length = 0;
      const result = await engine.generate(prompt, { maxNewTokens: 12, ignoreEos: true }).result;
      return { ...result, chunks: count('target prefill') + count('prefill') };
    };
    const prompt = tokens.slice(0, 500).map((token) => token + 2);
    const turn = [...prompt, ...(await ask(prompt)).tokens, 7, 8, 9];
    const warm = await ask(turn);
    await forget();
    const cold = await ask(turn);
    expect(cold.meta_info.cached_tokens).toBe(0);
    expect(warm.meta_info.cached_tokens).toBeGreaterThanOrEqual(500 + 12 - 1);
    expect({ text: warm.text, tokens: warm.tokens }).toEqual({ text: cold.text, tokens: cold.tokens });
    expect([cold.chunks, warm.chunks]).toEqual([9, 1]);
    expect(cold.stats.timeToFirstTokenMs / warm.stats.timeToFirstTokenMs).toBeGreaterThan(5);
  });
});

it('a request that ends takes nothing of the drafts of those beside it', async () => {
  const source = memorySource('own', randomFolder(randomModel({}, 93)));
  const own = await openEngine(source, source, { roundsInFlight: 4 });
  for (const short of [3, 5, 8]) {
    const ask = (prompt: number[], maxNewTokens: number) =>
      own.generate(prompt, { draftLength: 3, maxNewTokens, ignoreEos: true }).result;
    const results = await Promise.all([ask([5, 6, short], short), ask([7, 8, short], 60)]);
    // Its own draft agrees with it, also in the rounds that were under way when the other ended.
    expect(results.map(({ meta_info: meta }) => meta.spec_accept_rate)).toEqual([1, 1]);
  }
});
