/** Requests with sampling, penalties and logprobs, through the whole engine. */
import { beforeAll, describe, expect, it } from 'vitest';
import type { Engine, GenerateOptions, GenerateResult } from '../../src/types.ts';
import type { ReferenceModel } from '../reference/forward.ts';
import { gTest, significance } from '../reference/g_test.ts';
import { logitsAfter } from '../reference/generate.ts';
import { prompts, wideMarginPrompts } from '../reference/prompts.ts';
import { referenceDistribution } from '../reference/sample.ts';
import { noWarping } from '../reference/warp.ts';
import { embeddedPrompts, embeddedSource, embeddedTwin, openEngine } from './engine_bench.ts';
import { describeSeededGrid, randomRequest } from './seeded_grid.ts';

// All thirty requests and every k: test/nightly.
describeSeededGrid({ requestCount: 6, draftLengths: [1, 4, 7], maxNewTokens: 12 });

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
    for (const index of wideMarginPrompts.slice(0, 2)) {
      const prompt = prompts[index] as string;
      const greedy = await generate(prompt, { maxNewTokens: 24 });
      for (const options of [{ seed: 1 }, { seed: 2, draftLength: 0 }, {}]) {
        const cold = await generate(prompt, { maxNewTokens: 24, temperature: 0.001, ...options });
        expect(cold.tokens).toEqual(greedy.tokens);
      }
    }
  });

  it('gives other texts for other seeds, and without a seed', async () => {
    const options = { maxNewTokens: 16, temperature: 1 };
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
      const result = await generate(prompt, { maxNewTokens: 12, logprobs: true, topLogprobs: 4, ...options });
      const logprobs = result.logprobs ?? [];
      expect(logprobs.map(({ token }) => token)).toEqual(result.tokens);
      for (const [i, entry] of logprobs.entries()) {
        const row = logitsAfter(twin, [...prompt, ...result.tokens.slice(0, i)]);
        const highest = Math.max(...row);
        const normaliser = highest + Math.log(row.reduce((sum, logit) => sum + Math.exp(logit - highest), 0));
        expect(entry.logprob).toBeCloseTo((row[entry.token] as number) - normaliser, 3);
        const ranked = [...row.keys()].sort((a, b) => (row[b] as number) - (row[a] as number)).slice(0, 4);
        expect(entry.top.map(({ token }) => token)).toEqual(ranked);
        for (const { token, logprob } of entry.top) {
          expect(logprob).toBeCloseTo((row[token] as number) - normaliser, 3);
        }
      }
    }
  });

  it('keeps the sums of 20 random requests: emitted = 1 + accepted + verify + plain − truncated', async () => {
    for (let index = 100; index < 120; index++) {
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

  describe('without a seed', () => {
    let twin: ReferenceModel;
    beforeAll(async () => {
      twin = await embeddedTwin('stories-3m');
    });

    // The engine draws its seeds from crypto; counted ones make the test the same every time.
    const countedSeeds = (): (() => void) => {
      const original = crypto.getRandomValues;
      let count = 0;
      crypto.getRandomValues = ((words: Uint32Array) => {
        count += 1;
        words.set([count, 77]);
        return words;
      }) as typeof crypto.getRandomValues;
      return () => {
        crypto.getRandomValues = original;
      };
    };

    it.each([
      [{ temperature: 0.7, topK: 3 }, 3],
      [{ temperature: 1, topK: 4, topP: 0.95 }, 2],
      [{ temperature: 1.4, topK: 3, minP: 0.02 }, 7],
    ])('%o, k = %i: the joint of three tokens follows the target’s distribution', async (options, draftLength) => {
      const prompt = tokens[2] as number[];
      const joint = new Map<string, number>();
      const walk = (sequence: readonly number[], probability: number, depth: number): void => {
        if (depth === 0) {
          joint.set(sequence.slice(prompt.length).join(), probability);
          return;
        }
        const distribution = referenceDistribution(logitsAfter(twin, sequence), { ...noWarping, ...options });
        for (const [token, p] of distribution.entries())
          if (p > 0) walk([...sequence, token], probability * p, depth - 1);
      };
      walk(prompt, 1, 3);
      const counts = new Map([...joint.keys()].map((key) => [key, 0]));
      const restore = countedSeeds();
      try {
        for (let run = 0; run < 240; run++) {
          // Four tokens: the second and third come from one round, unless its first draft is refused.
          const result = await generate(prompt, { ...options, draftLength, maxNewTokens: 4 });
          const key = result.tokens.slice(0, 3).join();
          counts.set(key, (counts.get(key) ?? Number.NaN) + 1); // NaN: a triple that the target cannot give
        }
      } finally {
        restore();
      }
      const keys = [...joint.keys()];
      expect([...counts.keys()]).toEqual(keys);
      const { pValue } = gTest(
        keys.map((key) => counts.get(key) as number),
        keys.map((key) => joint.get(key) as number),
      );
      expect(pValue).toBeGreaterThan(significance);
    });
  });
});
