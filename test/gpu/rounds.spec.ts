/**
 * What a round costs beside its kernels, counted (DESIGN: six rules): one submit, one map of 64 bytes a sequence, nothing
 * made; and how often a round of several sequences reads the weights.
 */
import { beforeAll, expect, it } from 'vitest';
import type { Engine, GenerateOptions } from '../../src/types.ts';
import { randomModel } from '../reference/random_model.ts';
import { countCalls, expectRoundCosts } from './count_calls.ts';
import { knownCosts, memorySource, openEngine, randomFolder, withoutLastLayer } from './engine_bench.ts';

const target = randomModel({}, 63);
const openPair = (options: Parameters<typeof openEngine>[2] = {}) =>
  openEngine(
    memorySource('random-target', randomFolder(target)),
    memorySource('random-draft', randomFolder(withoutLastLayer(target))),
    options,
  );

let engine: Engine;
beforeAll(async () => {
  engine = await openPair();
  // The next request goes to another slot, and this one's is told to sit out, as it is from now on.
  await engine.generate([5], { maxNewTokens: 2 }).result;
});

it('a layer is seven dispatches, a pass those of its layers and three beside them', () => {
  // q+k+v, rope and cache, attention, its fold, output, gate+up, down
  const { target, draft } = engine.info;
  expect([target.dispatchesPerLayer, draft?.dispatchesPerLayer]).toEqual([7, 7]);
  // Embedding, what the first norm needs of it, final norm and head.
  expect(target.dispatchesPerPass).toBe(7 * target.layerCount + 3);
});

/** Another one each time: of a prompt that was fed before, less is fed. */
let promptCount = 0;
const seeded = { temperature: 1, topP: 0.9, seed: 7, repetitionPenalty: 1.1, logitBias: { 9: 1 } };

it.each<[string, number, GenerateOptions]>([
  ['greedy', 0, {}],
  ['greedy', 3, {}],
  ['greedy', 7, {}],
  ['seeded, with penalties', 3, seeded],
  ['unseeded', 3, { temperature: 1, topK: 20 }],
  ['greedy, with logprobs', 3, { logprobs: true, topLogprobs: 20 }],
])('%s, k = %i', async (_, draftLength, options) => {
  const isGreedy = Object.keys(options).length === 0;
  let roundCount = 0;
  const generate = async (maxNewTokens: number) => {
    const all = { ...options, draftLength, maxNewTokens, ignoreEos: true };
    const { stats } = await engine.generate([20 + promptCount++, 6, 7], all).result;
    roundCount = stats.roundCount;
  };
  const short = await countCalls(() => generate(3));
  const calls = await countCalls(() => generate(isGreedy ? 110 : 40));
  expect(roundCount).toBeGreaterThan(isGreedy ? 50 : 15);
  // Logprobs ride in the same staging buffer: (8, 41) words.
  const mapBytes = options.logprobs ? 64 + 8 * 41 * 4 : 64;
  expectRoundCosts(calls, short, { roundCount, draftLength, roundsInFlight: engine.info.roundsInFlight, mapBytes });
  const perRound = calls.dispatches.slice(draftLength > 0 ? 2 : 1);
  expect(new Set(perRound).size).toBe(1);
  if (isGreedy) expect(perRound[0]).toBe(engine.info.dispatchesPerRound[draftLength]);
});

it.each([
  { draftLength: 0, weightPasses: 1 },
  { draftLength: 1, weightPasses: 1 },
  { draftLength: 3, weightPasses: 2 },
])('four requests at once, k = $draftLength: rounds of four read the weights ⌈rows / 8⌉ times', async (given) => {
  const { draftLength, weightPasses } = given;
  let roundCount = 0;
  const { counts, dispatches, matmuls, mappedBytes } = await countCalls(async () => {
    const options = { draftLength, maxNewTokens: 24, ignoreEos: true };
    const runs = [1, 2, 3, 4].map(() => engine.generate([20 + promptCount++, 6, 7], options).result);
    const results = await Promise.all(runs);
    roundCount = results.reduce((sum, { stats }) => sum + stats.roundCount, 0);
  });
  const perRound = engine.info.dispatchesPerRound[draftLength];
  const { layerCount } = engine.info.target;
  const draftPasses = draftLength * (4 * (engine.info.draft?.layerCount ?? 0) + 1);
  const readsOfFour = draftPasses + weightPasses * (4 * layerCount + 1);
  const ofFour = matmuls.filter((read, i) => dispatches[i] === perRound && read.weightPasses === readsOfFour);
  expect(ofFour.length).toBeGreaterThan(24 / (draftLength + 1) / 2);
  // A round is one submit and one map, whoever shares it; nothing reads the weights more often.
  expect(counts.mapAsync).toBeLessThan(4 + roundCount / 2);
  expect(Math.max(...mappedBytes)).toBe(4 * 64);
  expect(Math.max(...matmuls.map((read) => read.weightPasses))).toBe(readsOfFour);
});

it('rounds that take longer with the length are cut where they do', async () => {
  const costs = { ...knownCosts, committedLength: 3, targetStepMs: 10 };
  const longContext = { ...costs, committedLength: 43, targetStepMs: 50 };
  const slow = await openPair({ costs: { ...costs, longContext } });
  await slow.generate([5], { maxNewTokens: 2 }).result;
  const options = { draftLength: 0, maxNewTokens: 41, ignoreEos: true };
  const { dispatches } = await countCalls(async () => {
    await slow.generate([20 + promptCount++, 6, 7], options).result;
  });
  const whole = slow.info.dispatchesPerRound[0] as number;
  // 10 ms and 1 for each token, known two rounds late: 30 ms are over from 24 tokens on.
  const rounds = dispatches.slice(1);
  const cutAt = rounds.findIndex((count) => count < whole);
  expect(cutAt).toBeGreaterThanOrEqual(20);
  expect(cutAt).toBeLessThanOrEqual(22);
  expect(rounds.slice(0, cutAt)).toEqual(new Array(cutAt).fill(whole));
  const parts = [Math.ceil(whole / 2), Math.floor(whole / 2)];
  expect(rounds.slice(cutAt)).toEqual(Array.from({ length: 40 - cutAt }, () => parts).flat());
});

it('a round that takes 100 ms is four submits, of as many dispatches, and one map: the same tokens', async () => {
  const slow = await openPair({ costs: { ...knownCosts, targetStepMs: 50, draftStepMs: 12, c: 0.24 } });
  const options = { draftLength: 3, maxNewTokens: 40, ignoreEos: true };
  const prompt = [20 + promptCount++, 6, 7];
  const expected = await engine.generate(prompt, options).result;
  await slow.generate([5], { maxNewTokens: 2 }).result;
  const calls = await countCalls(async () => {
    expect((await slow.generate(prompt, options).result).tokens).toEqual(expected.tokens);
  });
  const { roundCount } = expected.stats;
  // 3 · 12 + 1.3 · 50 ms
  const dispatchCount = slow.info.dispatchesPerRound[3] as number;
  const part = Math.ceil(dispatchCount / 4);
  const rounds = calls.dispatches.slice(-4 * roundCount);
  expect(rounds).toEqual(Array.from({ length: roundCount }, () => [part, part, part, dispatchCount - 3 * part]).flat());
  expect(calls.counts.mapAsync).toBeGreaterThanOrEqual(1 + roundCount);
  expect(calls.counts.mapAsync).toBeLessThanOrEqual(1 + roundCount + slow.info.roundsInFlight - 1);
});
