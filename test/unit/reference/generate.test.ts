import { describe, expect, test } from 'vitest';
import { argmax } from '../../reference/argmax.ts';
import { loadEmbeddedModel, loadEmbeddedTokenizer } from '../../reference/embedded_pair.ts';
import { createReferenceModel, type ReferenceModel } from '../../reference/forward.ts';
import {
  type GreedyResult,
  referenceGreedy,
  referenceSpeculative,
  teacherForcedGaps,
} from '../../reference/generate.ts';
import { endOfTextId, prompts, wideMarginPrompts } from '../../reference/prompts.ts';
import { createRandom } from '../../reference/random.ts';
import { randomModel } from '../../reference/random_model.ts';
import { summarizeRounds } from '../../reference/statistics.ts';

const target = loadEmbeddedModel('stories-3m');
const draft = loadEmbeddedModel('stories-650k');
const tokenizer = loadEmbeddedTokenizer();
const promptTokens = prompts.map((prompt) => tokenizer.encode(prompt));
const eos = [endOfTextId];

describe('embedded pair', () => {
  test('reads English: nats per token near the published validation loss (2.12 target, 2.44 draft)', () => {
    const tokens = promptTokens[19]!;
    const loss = (model: ReferenceModel): number => {
      const rows = model.forward(tokens.slice(0, -1), 0);
      const nats = rows.map((row, t) => {
        const largest = row[argmax(row)]!;
        return (
          largest + Math.log(row.reduce((sum, logit) => sum + Math.exp(logit - largest), 0)) - row[tokens[t + 1]!]!
        );
      });
      return nats.reduce((sum, value) => sum + value, 0) / nats.length;
    };
    // One text is not the validation set, but a broken rotation or norm costs whole nats.
    const [targetLoss, draftLoss] = [loss(target), loss(draft)];
    expect(targetLoss).toBeLessThan(2.6); // 2.45 when written
    expect(draftLoss).toBeLessThan(2.9); // 2.72
    expect(targetLoss).toBeLessThan(draftLoss);
  });
});

describe('prompts', () => {
  test('20 different ones, led by the end-of-text token, from one word to about 200 tokens', () => {
    expect(new Set(prompts).size).toBe(20);
    for (const tokens of promptTokens) expect(tokens.indexOf(endOfTextId)).toBe(0);
    for (const tokens of promptTokens) expect(tokens.lastIndexOf(endOfTextId)).toBe(0);
    const lengths = promptTokens.map((tokens) => tokens.length);
    expect(Math.min(...lengths)).toBe(2);
    expect(Math.max(...lengths)).toBe(220);
    expect(lengths.filter((length) => length > 41).length).toBe(1);
  });

  test('wideMarginPrompts are the five of the widest margin, and two prompts end early', () => {
    const runs = promptTokens.map((tokens) => referenceGreedy(target, tokens, 64, eos));
    const ended = runs.flatMap(({ finish }, i) => (finish === 'stop' ? [i] : []));
    expect(ended).toEqual([14, 19]);
    const ranking = runs
      .map(({ tokens, margins }, index) => ({ index, length: tokens.length, smallest: Math.min(...margins) }))
      .filter(({ length }) => length >= 16)
      .sort((a, b) => b.smallest - a.smallest);
    expect(ranking.slice(0, 5).map(({ index }) => index)).toEqual(wideMarginPrompts);
    expect(ranking[4]!.smallest).toBeGreaterThan(0.041);
  });
});

describe('referenceGreedy', () => {
  test('each token is the argmax of a whole pass over what came before', () => {
    const tokens = promptTokens[7]!;
    const { tokens: generated, margins } = referenceGreedy(target, tokens, 12, eos);
    generated.forEach((token, i) => {
      const row = target.forward([...tokens, ...generated.slice(0, i)], 0).at(-1)!;
      expect(argmax(row)).toBe(token);
      const others = [...row.filter((_, id) => id !== token)];
      expect(margins[i]).toBeCloseTo(row[token]! - Math.max(...others), 10);
    });
  });
  test('stops after the end-of-text token, which is its last', () => {
    const { tokens, margins, finish } = referenceGreedy(target, promptTokens[19]!, 64, eos);
    expect(finish).toBe('stop');
    expect(tokens.indexOf(endOfTextId)).toBe(tokens.length - 1);
    expect(margins.length).toBe(tokens.length);
    expect(tokenizer.decode(tokens)).toMatch(/lived happily ever after\.$/);
  });
  test('stops at the context', () => {
    expect(referenceGreedy(target, promptTokens[0]!, 64, eos, 20)).toMatchObject({ finish: 'length' });
    expect(referenceGreedy(target, promptTokens[0]!, 64, eos, 20).tokens.length).toBe(6);
    expect(() => referenceGreedy(target, promptTokens[0]!, 64, eos, 14)).toThrow('prompt of 1 to 13 tokens, got 14');
  });
});

describe('referenceSpeculative', () => {
  const greedyRuns = new Map<number, GreedyResult>();
  const greedyOf = (index: number): GreedyResult => {
    const known = greedyRuns.get(index) ?? referenceGreedy(target, promptTokens[index]!, 40, eos);
    greedyRuns.set(index, known);
    return known;
  };

  // Two that run on, one that ends in its first round and one that ends at the story's end.
  test.each([0, 7, 14, 19])(
    'prompt %i, k = 1..7: the tokens of greedy decoding, every round accounted for',
    (index) => {
      const greedy = greedyOf(index);
      for (let k = 1; k <= 7; k++) {
        const { tokens, rounds, finish } = referenceSpeculative(target, draft, promptTokens[index]!, 40, k, eos);
        expect(tokens).toEqual(greedy.tokens);
        expect(finish).toBe(greedy.finish);
        expect(tokens.length).toBe(1 + rounds.reduce((sum, { committedCount }) => sum + committedCount, 0));
        for (const { draftCount, acceptedCount } of rounds) {
          expect(draftCount).toBe(k);
          expect(acceptedCount).toBeLessThanOrEqual(k);
        }
        for (const round of rounds.slice(0, -1)) expect(round.committedCount).toBe(round.acceptedCount + 1);
      }
    },
  );

  test('acceptance at k = 3 is near the published .613', () => {
    let drafted = 0;
    let accepted = 0;
    for (const tokens of promptTokens.slice(0, 8)) {
      const run = referenceSpeculative(target, draft, tokens, 64, 3, eos);
      const statistics = summarizeRounds(run.rounds, run.tokens.length, 3);
      drafted += statistics.draftedCount;
      accepted += statistics.acceptedCount;
    }
    expect(Math.abs(accepted / drafted - 0.613)).toBeLessThan(0.1);
  });

  test.each([1, 3, 7])('k = %i: with the target as its own draft every draft is accepted', (k) => {
    // A model of its own with the same weights, and the very same object, whose one cache serves both.
    for (const ownDraft of [loadEmbeddedModel('stories-3m'), target]) {
      const run = referenceSpeculative(target, ownDraft, promptTokens[2]!, 40, k, eos);
      expect(run.tokens).toEqual(greedyOf(2).tokens);
      expect(summarizeRounds(run.rounds, run.tokens.length, k).acceptRate).toBe(1);
      expect(run.rounds.length).toBe(Math.ceil(39 / (k + 1)));
    }
  });

  test('a draft of random weights changes nothing but the rounds', () => {
    const { config, tensors } = randomModel({ vocab_size: 2048, num_hidden_layers: 1 }, 41);
    const random = createReferenceModel(config, tensors);
    const run = referenceSpeculative(target, random, promptTokens[2]!, 24, 3, eos);
    expect(run.tokens).toEqual(referenceGreedy(target, promptTokens[2]!, 24, eos).tokens);
    expect(summarizeRounds(run.rounds, run.tokens.length, 3).acceptRate).toBeLessThan(0.1);
  });

  test('near the context rounds draft less, then not at all, and the last one fills it', () => {
    const tokens = promptTokens[2]!; // 16
    const run = referenceSpeculative(target, target, tokens, 100, 3, eos, 26);
    // Committed before each round: 17, 21, 25 of 26.
    expect(run.rounds).toEqual([
      { draftCount: 3, acceptedCount: 3, committedCount: 4 },
      { draftCount: 3, acceptedCount: 3, committedCount: 4 },
      { draftCount: 0, acceptedCount: 0, committedCount: 1 },
    ]);
    expect(run.finish).toBe('length');
    expect(run.tokens).toEqual(referenceGreedy(target, tokens, 100, eos, 26).tokens);
    const shorter = referenceSpeculative(target, target, tokens, 100, 3, eos, 24);
    expect(shorter.rounds.map(({ draftCount }) => draftCount)).toEqual([3, 2]);
    expect(shorter.tokens).toEqual(run.tokens.slice(0, 8));
  });

  test('accepted drafts beyond the last token count, though they are not committed', () => {
    const run = referenceSpeculative(target, target, promptTokens[2]!, 4, 7, eos);
    expect(run.rounds).toEqual([{ draftCount: 7, acceptedCount: 7, committedCount: 3 }]);
    expect(run.tokens.length).toBe(4);
    expect(referenceSpeculative(target, draft, promptTokens[2]!, 1, 3, eos).rounds).toEqual([]);
  });

  test('k = 0 decodes plainly, a token a round', () => {
    const run = referenceSpeculative(target, draft, promptTokens[2]!, 10, 0, eos);
    expect(run.tokens).toEqual(referenceGreedy(target, promptTokens[2]!, 10, eos).tokens);
    expect(run.rounds).toEqual(Array(9).fill({ draftCount: 0, acceptedCount: 0, committedCount: 1 }));
  });

  test('small random pairs of odd shapes, related and unrelated, every k', () => {
    const random = createRandom(51);
    const big = randomModel({ num_hidden_layers: 2 }, 52);
    const other = randomModel(
      { num_hidden_layers: 1, hidden_size: 20, num_attention_heads: 3, num_key_value_heads: 1 },
      53,
    );
    // The big one without its last layer: agrees now and then, where unrelated weights agree by accident only.
    const shallow = { ...big.config, layerCount: 1 };
    const bigTarget = createReferenceModel(big.config, big.tensors);
    const drafts = [createReferenceModel(other.config, other.tensors), createReferenceModel(shallow, big.tensors)];
    for (let k = 1; k <= 7; k++) {
      const prompt = Array.from({ length: 1 + random.integer(9) }, () => random.integer(259));
      const greedy = referenceGreedy(bigTarget, prompt, 30, [3, 77]);
      for (const model of drafts) {
        expect(referenceSpeculative(bigTarget, model, prompt, 30, k, [3, 77]).tokens).toEqual(greedy.tokens);
      }
    }
  });
});

describe('teacherForcedGaps', () => {
  test('0 along a greedy decode, the distance where another token stands', () => {
    const tokens = promptTokens[4]!;
    const { tokens: generated, margins } = referenceGreedy(target, tokens, 8, eos);
    expect(teacherForcedGaps(target, tokens, generated)).toEqual(generated.map(() => 0));
    const row = target.forward([...tokens, ...generated.slice(0, 7)], 0).at(-1)!;
    const second = argmax(row.map((logit, id) => (id === generated[7] ? -Infinity : logit)));
    const gaps = teacherForcedGaps(target, tokens, generated.with(7, second));
    expect(gaps.slice(0, 7)).toEqual(generated.slice(0, 7).map(() => 0));
    expect(gaps[7]).toBeCloseTo(margins[7]!, 9);
    expect(gaps[7]).toBeGreaterThan(0.01);
  });
});
