/** Requests with sampling, penalties and logprobs, through the whole engine. */
import { beforeAll, describe, expect, it } from 'vitest';
import type { Engine, GenerateOptions, GenerateResult } from '../../src/types.ts';
import { logitsAfter } from '../reference/generate.ts';
import { prompts, wideMarginPrompts } from '../reference/prompts.ts';
import { embeddedPrompts, embeddedSource, embeddedTwin, openEngine, withSeedWords } from './engine_bench.ts';
import { describeSeededGrid, randomRequest } from './seeded_grid.ts';

// All thirty requests and every k, and what requests without a seed draw: test/nightly.
describeSeededGrid({ requestCount: 2, draftLengths: [5], maxNewTokens: 10 });

describe('the embedded pair', () => {
  let engine: Engine;
  let tokens: number[][];
  beforeAll(async () => {
    engine = await openEngine(embeddedSource('stories-3m'), embeddedSource('stories-650k'));
    tokens = await embeddedPrompts();
  });
  const generate = (prompt: string | number[], options: GenerateOptions): Promise<GenerateResult> =>
    engine.generate(prompt, options).result;

  it('is greedy where the temperature goes to 0', async () => {
    for (const index of wideMarginPrompts.slice(0, 1)) {
      const prompt = prompts[index] as string;
      const greedy = await generate(prompt, { maxNewTokens: 12 });
      for (const options of [{ seed: 1 }, { seed: 2, draftLength: 0 }, {}]) {
        const cold = await generate(prompt, { maxNewTokens: 12, temperature: 0.001, ...options });
        expect(cold.tokens).toEqual(greedy.tokens);
      }
    }
  });

  it('gives other texts for other seeds, and without a seed', async () => {
    const options = { maxNewTokens: 24, temperature: 1 };
    const texts = new Set<string>();
    for (const seed of [1, 2, 2 ** 32 + 1, undefined, undefined]) {
      texts.add((await generate('Once upon a time', { ...options, ...(seed !== undefined && { seed }) })).text);
    }
    expect(texts.size).toBe(5);
  });

  it('lets a penalty, a bias and minNewTokens work', async () => {
    const prompt = prompts[14] as string; // ends after two tokens when left alone
    const plain = await generate(prompt, { maxNewTokens: 20 });
    expect(plain.meta_info.finish_reason.type).toBe('stop');
    const longer = await generate(prompt, { maxNewTokens: 20, minNewTokens: 15 });
    expect(longer.tokens.length).toBeGreaterThanOrEqual(15);
    const eos = plain.tokens.at(-1) as number;
    expect(longer.tokens.slice(0, 14)).not.toContain(eos);
    const ignored = await generate(prompt, { maxNewTokens: 20, ignoreEos: true });
    expect(ignored.tokens).toHaveLength(20);
    expect(ignored.tokens).toContain(eos);

    const biased = await generate(prompts[2] as string, { maxNewTokens: 8, logitBias: { 77: 100 } });
    expect(biased.tokens).toEqual(new Array(8).fill(77));
    const [first] = (await generate(prompts[2] as string, { maxNewTokens: 1 })).tokens as [number];
    const banned = await generate(prompts[2] as string, { maxNewTokens: 8, logitBias: { [first]: -100 } });
    expect(banned.tokens).not.toContain(first);
    // A penalty of 100 on each use: no token comes twice.
    const once = await generate(prompts[2] as string, { maxNewTokens: 24, repetitionPenalty: 100 });
    expect(new Set(once.tokens).size).toBe(24);
  });

  it('ends where a stop string is complete, across tokens, and at a stop token', async () => {
    const plain = await generate(prompts[2] as string, { maxNewTokens: 40 });
    const stop = plain.text.slice(20, 32);
    for (const draftLength of [0, 3, 7]) {
      const {
        text,
        tokens: kept,
        meta_info,
      } = await generate(prompts[2] as string, { maxNewTokens: 40, stop, draftLength });
      expect(text).toBe(plain.text.slice(0, plain.text.indexOf(stop)));
      expect(meta_info.finish_reason).toEqual({ type: 'stop', matched: stop });
      expect(kept).toEqual(plain.tokens.slice(0, kept.length));
    }
    const token = plain.tokens[9] as number;
    const { tokens: cut, meta_info } = await generate(prompts[2] as string, {
      maxNewTokens: 40,
      stopTokenIds: [token],
    });
    expect(cut).toEqual(plain.tokens.slice(0, plain.tokens.indexOf(token) + 1));
    expect(meta_info.finish_reason).toEqual({ type: 'stop', matched: token });
  });

  it('tells logprobs of the model’s own distribution, whatever the sampling and k', async () => {
    const twin = await embeddedTwin('stories-3m');
    const prompt = tokens[0] as number[];
    for (const options of [{}, { temperature: 1.2, seed: 3, topK: 50, draftLength: 7 }, { temperature: 0.9 }]) {
      const result = await withSeedWords([11, 22], () =>
        generate(prompt, { maxNewTokens: 12, logprobs: true, topLogprobs: 4, ...options }),
      );
      const logprobs = result.logprobs ?? [];
      expect(logprobs.map(({ token }) => token)).toEqual(result.tokens);
      for (const [i, entry] of logprobs.entries()) {
        const row = logitsAfter(twin, [...prompt, ...result.tokens.slice(0, i)]);
        const highest = Math.max(...row);
        // Keys and values lie in f16: one that the twin rounds the other way moves logits by up to 0.1 % of the largest.
        const tolerance = 1e-3 * highest;
        const normaliser = highest + Math.log(row.reduce((sum, logit) => sum + Math.exp(logit - highest), 0));
        const expectNear = (logprob: number, token: number) =>
          expect(Math.abs(logprob - ((row[token] as number) - normaliser))).toBeLessThan(tolerance);
        expectNear(entry.logprob, entry.token);
        const ranked = [...row.keys()].sort((a, b) => (row[b] as number) - (row[a] as number)).slice(0, 4);
        expect(new Set(entry.top.map(({ token }) => token)).size).toBe(4);
        for (const [rank, { token, logprob }] of entry.top.entries()) {
          expectNear(logprob, token);
          // The token of this rank, or one as likely.
          expectNear(logprob, ranked[rank] as number);
        }
      }
    }
  });

  it('keeps the sums of 3 random requests: emitted = 1 + accepted + verify + plain − truncated', async () => {
    for (let index = 100; index < 103; index++) {
      const { prompt, options } = randomRequest(index, 1 + (index % 13));
      const result = await generate(prompt, { ...options, draftLength: index % 8 });
      const { stats, meta_info: meta } = result;
      const emitted = 1 + stats.acceptedCount + stats.verifyCount + stats.plainCount;
      const truncated = emitted - result.tokens.length;
      expect(meta.completion_tokens).toBe(result.tokens.length);
      expect(truncated).toBeGreaterThanOrEqual(0);
      // Only the last round can be cut short.
      expect(truncated).toBeLessThanOrEqual(index % 8);
      if (meta.finish_reason.type === 'length') expect(result.tokens).toHaveLength(options.maxNewTokens as number);
    }
  });
});
