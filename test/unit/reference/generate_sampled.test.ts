import { describe, expect, test } from 'vitest';
import { loadEmbeddedModel, loadEmbeddedTokenizer } from '../../reference/embedded_pair.ts';
import { createReferenceModel, type ReferenceModel } from '../../reference/forward.ts';
import { gTest, significance } from '../../reference/g_test.ts';
import { referenceGreedy } from '../../reference/generate.ts';
import {
  referenceSampled,
  referenceSpeculativeSampled,
  type SampledRequest,
} from '../../reference/generate_sampled.ts';
import { endOfTextId, prompts } from '../../reference/prompts.ts';
import { createRandom } from '../../reference/random.ts';
import { randomModel } from '../../reference/random_model.ts';
import { referenceDistribution } from '../../reference/sample.ts';
import { noWarping, type SamplingOptions } from '../../reference/warp.ts';

const target = loadEmbeddedModel('stories-3m');
const draft = loadEmbeddedModel('stories-650k');
const tokenizer = loadEmbeddedTokenizer();

const request = (
  prompt: number,
  options: Partial<SamplingOptions>,
  given: Partial<SampledRequest> = {},
): SampledRequest => ({
  promptTokens: tokenizer.encode(prompts[prompt]!),
  maxNewTokens: 16,
  contextLength: 256,
  options: { ...noWarping, stopTokenIds: [endOfTextId], ...options },
  seed: [4, 2],
  ...given,
});

describe('referenceSampled', () => {
  test('at the lowest temperature it is greedy, whatever the seed', () => {
    const { tokens } = referenceGreedy(target, tokenizer.encode(prompts[7]!), 16, [endOfTextId]);
    expect(referenceSampled(target, request(7, { temperature: 1e-4 })).tokens).toEqual(tokens);
    expect(referenceSampled(target, request(7, { temperature: 0 }, { seed: null })).tokens).toEqual(tokens);
  });
  test('another seed is another text, the same seed the same', () => {
    const texts = [1, 2, 3, 1].map((low) => referenceSampled(target, request(0, {}, { seed: [low, 0] })).tokens.join());
    expect(new Set(texts).size).toBe(3);
    expect(texts[3]).toBe(texts[0]);
  });
  test('minNewTokens puts the end off, and a penalty against repetition leaves no token twice', () => {
    const early = referenceSampled(target, request(14, { temperature: 0 }, { seed: null }));
    expect(early).toMatchObject({ finish: 'stop' });
    const late = referenceSampled(target, request(14, { temperature: 0, minNewTokens: 9 }, { seed: null }));
    expect(late.tokens.slice(0, 9)).not.toContain(endOfTextId);
    const { tokens } = referenceSampled(target, request(2, { temperature: 0, presencePenalty: 1000 }, { seed: null }));
    expect(new Set(tokens).size).toBe(tokens.length);
  });
});

describe('referenceSpeculativeSampled', () => {
  const { config, tensors } = randomModel({ vocab_size: 2048, num_hidden_layers: 1 }, 41);
  const random = createReferenceModel(config, tensors);
  const penalties = {
    repetitionPenalty: 1.2,
    presencePenalty: 0.3,
    frequencyPenalty: 0.4,
    logitBias: [
      [20, 2],
      [30, -3],
    ] as [number, number][],
    minNewTokens: 5,
  };

  test.each([
    ['seeded', request(4, { temperature: 0.8, topP: 0.9 })],
    ['seeded, penalties', request(1, { temperature: 1, topK: 50, minP: 0.02, ...penalties })],
    ['temperature 0, penalties', request(14, { temperature: 0, ...penalties }, { seed: null })],
  ])('%s: any k and draft give the tokens of one at a time', (_, asked) => {
    const { tokens, finish } = referenceSampled(target, asked);
    for (const k of [0, 1, 3, 7]) {
      for (const draftModel of [draft, target, random]) {
        const run = referenceSpeculativeSampled(target, draftModel, asked, k, 'coupled');
        expect(run.tokens).toEqual(tokens);
        expect(run.finish).toBe(finish);
        if (draftModel === target) for (const round of run.rounds) expect(round.acceptedCount).toBe(round.draftCount);
      }
    }
  });

  test.each([1, 4])('rejection, k = %i: an own draft is always accepted, a random one changes the rounds only', (k) => {
    const asked = request(2, { temperature: 0.9, topK: 40 });
    const own = referenceSpeculativeSampled(target, target, asked, k, 'rejection');
    for (const round of own.rounds) expect(round.acceptedCount).toBe(round.draftCount);
    expect(own.rounds.length).toBe(Math.ceil(15 / (k + 1)));
    const unlike = referenceSpeculativeSampled(target, random, asked, k, 'rejection');
    expect(unlike.tokens.length).toBe(16);
    expect(unlike.rounds.length).toBeGreaterThan(11);
    const likely = referenceSpeculativeSampled(target, draft, asked, k, 'rejection');
    expect(likely.rounds.length).toBeLessThan(unlike.rounds.length);
  });

  /** A model that looks at the last token only. */
  function markovModel(table: readonly Float64Array[]): ReferenceModel {
    return {
      config: { ...config, maxContextLength: 64 },
      tokens: [],
      forward: (tokens) => tokens.map((t) => table[t]!),
    };
  }

  test.each([
    [{ temperature: 0.8, topK: 4 }, 2],
    [{ temperature: 1.3, topP: 0.8, frequencyPenalty: 0.7 }, 3],
  ])('rejection: three tokens together follow the target (%j, k = %i)', (given, k) => {
    const numbers = createRandom(k);
    const targetTable = Array.from({ length: 6 }, () => numbers.normals(6, 1.5));
    const draftTable = targetTable.map((row) => row.map((logit) => logit + numbers.normal()));
    const options = { ...noWarping, ...given };
    const next = (sequence: number[]) =>
      referenceDistribution(targetTable[sequence.at(-1)!]!, options, [0], sequence.slice(1));
    const expected: number[] = [];
    next([0]).forEach((first, a) => {
      next([0, a]).forEach((second, b) => {
        for (const third of next([0, a, b])) expected.push(first * second * third);
      });
    });
    const counts = expected.map(() => 0);
    const asked = { promptTokens: [0], maxNewTokens: 4, contextLength: 64, options };
    const [targetModel, draftModel] = [markovModel(targetTable), markovModel(draftTable)];
    for (let low = 0; low < 8000; low++) {
      const run = referenceSpeculativeSampled(targetModel, draftModel, { ...asked, seed: [low, 5] }, k, 'rejection');
      const [a, b, c] = run.tokens as [number, number, number];
      counts[(a * 6 + b) * 6 + c]!++;
    }
    expect(gTest(counts, expected).pValue).toBeGreaterThan(significance);
  });
});
