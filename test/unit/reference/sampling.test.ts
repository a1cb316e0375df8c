import { describe, expect, test } from 'vitest';
import { acceptRejected } from '../../reference/accept.ts';
import { noToken } from '../../reference/argmax.ts';
import { gTest, significance } from '../../reference/g_test.ts';
import { logprobs } from '../../reference/logprobs.ts';
import { createRandom } from '../../reference/random.ts';
import { reject, type WarpedRow } from '../../reference/reject.ts';
import { residual } from '../../reference/residual.ts';
import { referenceDistribution, sample } from '../../reference/sample.ts';
import { purposes, type Seed } from '../../reference/threefry.ts';
import { probabilities, threshold } from '../../reference/threshold.ts';
import { lowest, noWarping, type SamplingOptions, warp } from '../../reference/warp.ts';

const options = (given: Partial<SamplingOptions>): SamplingOptions => ({ ...noWarping, ...given });
const logitsOf = (...probabilities: number[]) => Float64Array.from(probabilities, Math.log);
const rowOf = (logits: Float64Array, given: Partial<SamplingOptions> = {}): WarpedRow => {
  const warped = warp(logits, [], [], options(given));
  return { warped, distribution: threshold(warped, options(given)) };
};
/** Counts of the tokens that `draw` gives for seeds 0..count − 1. */
function countTokens(vocabSize: number, count: number, draw: (seed: Seed) => number): number[] {
  const counts = new Array(vocabSize).fill(0);
  for (let low = 0; low < count; low++) counts[draw([low, 77])]++;
  return counts;
}

describe('warp', () => {
  const logits = Float64Array.of(2, -2, 1, 0, 4);
  test('by hand: each penalty, the bias, then the temperature', () => {
    const all = options({
      temperature: 0.5,
      repetitionPenalty: 2,
      presencePenalty: 0.25,
      frequencyPenalty: 0.5,
      logitBias: [
        [3, 7],
        [1, -1],
      ],
    });
    // 0: prompt only, 2 / 2. 1: prompt and twice output, −2 · 2 − 0.25 − 1 − 1. 2: output once. 3: bias. 4: untouched.
    expect([...warp(logits, [0, 1, 1], [1, 2, 1], all)]).toEqual([2, -12.5, -0.5, 14, 8]);
  });
  test('without options nothing changes, and temperature 0 scales nothing', () => {
    expect(warp(logits, [0], [1], noWarping)).toEqual(logits);
    expect(warp(logits, [0], [1], options({ temperature: 0 }))).toEqual(logits);
  });
  test('stop tokens are banned until minNewTokens stand before the token', () => {
    const banning = options({ minNewTokens: 2, stopTokenIds: [4], logitBias: [[4, 100]] });
    expect(warp(logits, [0, 0, 0], [1], banning)[4]).toBe(lowest);
    expect(warp(logits, [0, 0, 0], [1, 1], banning)[4]).toBe(104);
  });
  test('what is not finite stays so', () => {
    const odd = Float64Array.of(Number.NaN, Infinity, -Infinity);
    expect([...warp(odd, [0, 1, 2], [2], options({ repetitionPenalty: 2, temperature: 0.5 }))]).toEqual([...odd]);
  });
});

describe('threshold', () => {
  const kept = (logits: Float64Array, given: Partial<SamplingOptions>): number[] =>
    [...probabilities(logits, threshold(logits, options(given)))].map((p) => Number(p.toFixed(6)));
  const logits = logitsOf(0.1, 0.4, 0.2, 0.3);

  test('top-k keeps the k largest, and all that equal the k-th', () => {
    expect(kept(logits, { topK: 2 })).toEqual([0, 0.571429, 0, 0.428571]);
    expect(kept(logitsOf(0.25, 0.25, 0.25, 0.25), { topK: 1 })).toEqual([0.25, 0.25, 0.25, 0.25]);
    expect(kept(logits, { topK: 4 })).toEqual([0.1, 0.4, 0.2, 0.3]);
    expect(kept(logits, { topK: 4_000_000_000 })).toEqual([0.1, 0.4, 0.2, 0.3]);
  });
  test('top-p keeps the fewest that reach it, of what top-k kept', () => {
    expect(kept(logits, { topP: 0.69 })).toEqual([0, 0.571429, 0, 0.428571]);
    expect(kept(logits, { topP: 0.71 })).toEqual([0, 0.444444, 0.222222, 0.333333]);
    expect(kept(logits, { topP: 1e-6 })).toEqual([0, 1, 0, 0]);
    // Of the three kept, 0.6 of 0.9 is 0.54: two tokens.
    expect(kept(logits, { topK: 3, topP: 0.6 })).toEqual([0, 0.571429, 0, 0.428571]);
  });
  test('min-p keeps what has that part of the largest probability', () => {
    expect(kept(logits, { minP: 0.49 })).toEqual([0, 0.444444, 0.222222, 0.333333]);
    expect(kept(logits, { minP: 0.51 })).toEqual([0, 0.571429, 0, 0.428571]);
    expect(kept(logits, { minP: 1 })).toEqual([0, 1, 0, 0]);
    expect(kept(logits, { topK: 3, minP: 0.1 })).toEqual([0, 0.444444, 0.222222, 0.333333]);
  });
  test('off, it keeps everything finite', () => {
    expect(threshold(logits, noWarping)).toEqual({ max: Math.log(0.4), threshold: lowest, sum: 2.5, margin: Infinity });
    const odd = Float64Array.of(Number.NaN, 1, Infinity, -Infinity);
    expect([...probabilities(odd, threshold(odd, noWarping))]).toEqual([0, 1, 0, 0]);
    expect(threshold(Float64Array.of(Number.NaN), noWarping)).toMatchObject({ threshold: lowest, sum: 0 });
  });
  test('its margin is the way to another choice', () => {
    expect(threshold(Float64Array.of(1, 2, 4), options({ topK: 2 })).margin).toBe(1);
    expect(threshold(logits, options({ topP: 0.69 })).margin).toBeCloseTo(0.01, 12);
    expect(threshold(logits, options({ topP: 0.41 })).margin).toBeCloseTo(0.01, 12);
    expect(threshold(logits, options({ minP: 0.5001 })).margin).toBeCloseTo(0.0002, 6);
  });
});

describe('sample', () => {
  const logits = Float64Array.from({ length: 40 }, (_, i) => 3 * Math.sin(i * 1.7));
  test.each([[{}], [{ temperature: 0.5, topK: 7 }], [{ temperature: 1.5, topP: 0.8 }], [{ minP: 0.1 }]])(
    '20,000 seeds follow the distribution of %j',
    (given) => {
      const { warped, distribution } = rowOf(logits, given);
      const counts = countTokens(40, 20_000, (seed) => sample(warped, distribution, seed, 9, purposes.shared).token);
      expect(gTest(counts, referenceDistribution(logits, options(given))).pValue).toBeGreaterThan(significance);
      expect(gTest(counts, referenceDistribution(logits, options({ temperature: 0.9 }))).pValue).toBeLessThan(
        significance,
      );
    },
  );
  test('its margin is the distance to the next score; without a finite logit there is no token', () => {
    const two = rowOf(Float64Array.of(0, 0));
    const draw = sample(two.warped, two.distribution, [1, 2], 3, purposes.draft);
    const moved = rowOf(Float64Array.of(0, 0).fill(draw.margin + 1e-9, 1 - draw.token, 2 - draw.token));
    expect(sample(moved.warped, moved.distribution, [1, 2], 3, purposes.draft).token).toBe(1 - draw.token);
    const none = rowOf(Float64Array.of(Number.NaN));
    expect(sample(none.warped, none.distribution, [1, 2], 3, purposes.draft).token).toBe(noToken);
  });
});

describe('reject and residual', () => {
  const random = createRandom(5);
  const targetLogits = random.normals(30, 1.5);
  const near = targetLogits.map((logit) => logit + 0.3 * random.normal());
  const far = random.normals(30, 1.5);
  const given = { temperature: 0.8, topK: 20 };
  const length = 12;

  /** The first token of a round of two drafts of one draft distribution. */
  const firstToken = (draft: WarpedRow, target: WarpedRow, seed: Seed): number => {
    const drafts = [0, 1].map((i) => sample(draft.warped, draft.distribution, seed, length + i, purposes.draft).token);
    const targetRows = [target, target, target];
    const { acceptedCount } = reject(drafts, targetRows, [draft, draft], seed, length);
    return acceptedCount > 0
      ? (drafts[0] as number)
      : residual(drafts, acceptedCount, targetRows, [draft, draft], seed, length).token;
  };

  test.each([
    ['near', near],
    ['far', far],
    ['equal', targetLogits],
  ])('a %s draft: the committed token follows the target', (_, draftLogits) => {
    const target = rowOf(targetLogits, given);
    const draft = rowOf(draftLogits, given);
    const counts = countTokens(30, 20_000, (seed) => firstToken(draft, target, seed));
    const expected = referenceDistribution(targetLogits, options(given));
    expect(gTest(counts, expected).pValue).toBeGreaterThan(significance);
  });
  test('an equal draft is always accepted', () => {
    const row = rowOf(targetLogits, given);
    for (let low = 0; low < 500; low++) {
      const drafts = [sample(row.warped, row.distribution, [low, 1], 4, purposes.draft).token];
      expect(reject(drafts, [row], [row], [low, 1], 4).acceptedCount).toBe(1);
    }
  });
  test('the acceptance rate is the overlap of the distributions', () => {
    const [target, draft] = [rowOf(targetLogits), rowOf(far)];
    const overlap = probabilities(target.warped, target.distribution).reduce(
      (sum, p, id) => sum + Math.min(p, probabilities(draft.warped, draft.distribution)[id] as number),
      0,
    );
    let accepted = 0;
    for (let low = 0; low < 5000; low++) {
      const drafts = [sample(draft.warped, draft.distribution, [low, 3], 8, purposes.draft).token];
      accepted += reject(drafts, [target], [draft], [low, 3], 8).acceptedCount;
    }
    expect(Math.abs(accepted / 5000 - overlap)).toBeLessThan(4 * Math.sqrt((overlap * (1 - overlap)) / 5000));
  });
  test('a draft that the target cannot say, and no draft at all, are refused', () => {
    const target = rowOf(Float64Array.of(0, 0, Number.NaN));
    const draft = rowOf(Float64Array.of(0, 0, 9, 9));
    for (const token of [2, 3, noToken]) expect(reject([token], [target], [draft], [1, 1], 4).acceptedCount).toBe(0);
  });
  test('after a refusal only what the target likes better can follow', () => {
    const [target, draft] = [rowOf(logitsOf(0.2, 0.3, 0.5)), rowOf(logitsOf(0.5, 0.25, 0.25))];
    const counts = countTokens(3, 5000, (seed) => residual([0], 0, [target], [draft], seed, 6).token);
    expect(gTest(counts, [0, 0.05 / 0.3, 0.25 / 0.3]).pValue).toBeGreaterThan(significance);
    const noDraft = countTokens(3, 5000, (seed) => residual([noToken], 0, [target], [draft], seed, 6).token);
    expect(gTest(noDraft, [0.2, 0.3, 0.5]).pValue).toBeGreaterThan(significance);
    const bonus = countTokens(3, 5000, (seed) => residual([0], 1, [draft, target], [draft], seed, 6).token);
    expect(gTest(bonus, [0.2, 0.3, 0.5]).pValue).toBeGreaterThan(significance);
  });
  test('with no residual at all the target decides', () => {
    const row = rowOf(logitsOf(0.2, 0.3, 0.5));
    const counts = countTokens(3, 5000, (seed) => residual([0], 0, [row], [row], seed, 6).token);
    expect(gTest(counts, [0.2, 0.3, 0.5]).pValue).toBeGreaterThan(significance);
  });
});

test('acceptRejected commits the accepted drafts and the token after them', () => {
  const limits = { committedLength: 10, maxLength: 100, contextLength: 200, stopTokenIds: [0] };
  expect(acceptRejected([5, 6, 7], 2, 9, limits)).toEqual({
    draftCount: 3,
    acceptedCount: 2,
    tokens: [5, 6, 9],
    finish: null,
    nonFinite: false,
  });
  expect(acceptRejected([5, 0, 7], 3, 9, limits)).toMatchObject({ acceptedCount: 3, tokens: [5, 0], finish: 'stop' });
  expect(acceptRejected([], 0, noToken, limits)).toMatchObject({ tokens: [], finish: 'length', nonFinite: true });
  expect(() => acceptRejected([5], 2, 9, limits)).toThrow('at most 1');
});

test('logprobs: log-softmax, descending, ties by lowest id, finite only', () => {
  const { logprob, top } = logprobs(Float64Array.of(1, Number.NaN, 2, 2, Infinity, 0), 5, 4);
  const normaliser = Math.log(Math.E + 2 * Math.E ** 2 + 1);
  expect(logprob).toBeCloseTo(-normaliser, 12);
  expect(top.map(({ id }) => id)).toEqual([2, 3, 0, 5]);
  expect(top[2]?.logprob).toBeCloseTo(1 - normaliser, 12);
  expect(logprobs(Float64Array.of(1, 2), 0, 20).top.length).toBe(2);
});
