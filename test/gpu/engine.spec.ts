/** The engine's promise: speculation changes the time, never the tokens, whatever the draft. */
import { expect, it } from 'vitest';
import { prompts } from '../reference/prompts.ts';
import { randomModel } from '../reference/random_model.ts';
import {
  embeddedFiles,
  embeddedPrompts,
  embeddedShape,
  embeddedSource,
  memorySource,
  openEngine,
  randomFolder,
} from './engine_bench.ts';
import { describeEqualityGrid } from './equality_grid.ts';

// Every k and every prompt: test/nightly. Prompt 14 ends in its first round.
describeEqualityGrid({
  promptIndices: [14, 18],
  draftLengths: [2, 4, 7],
  variants: [
    { roundsInFlight: 2, kernelKind: 'workgroup' },
    { roundsInFlight: 3, kernelKind: 'lane' },
  ],
  maxNewTokens: 12,
});

const prompt = prompts[2] as string;

it('the target as its own draft accepts everything: 8 tokens after the first take 8 / (k + 1) rounds', async () => {
  const source = embeddedSource('stories-3m');
  const engine = await openEngine(source, source, { roundsInFlight: 3, costs: null });
  const generate = (draftLength: number) => engine.generate(prompt, { draftLength, maxNewTokens: 9 }).result;
  const plain = await generate(0);
  for (const k of [1, 3, 7]) {
    const { tokens, stats, meta_info: meta } = await generate(k);
    expect({ k, tokens }).toEqual({ k, tokens: plain.tokens });
    expect(meta.spec_accept_rate).toBe(1);
    expect(stats.roundCount).toBe(8 / (k + 1));
  }

  // k by the measured cost model, round by round: other rounds, the same tokens.
  const { tokens, stats } = await engine.generate(prompt, { maxNewTokens: 9 }).result;
  expect(tokens).toEqual(plain.tokens);
  expect(engine.info.costs?.v).toHaveLength(8);
  expect(stats.observedSpeedup).toBeGreaterThan(0.1);
  expect(stats.expectedSpeedup).toBeGreaterThan(0.1);
});

it('the next turn of a conversation is fed what is new, and answered as in a cold run', async () => {
  const engine = await openEngine(embeddedSource('stories-3m'), embeddedSource('stories-650k'));
  const first = (await embeddedPrompts())[2] as number[];
  const generate = (tokens: number[], draftLength: number) =>
    engine.generate(tokens, { draftLength, maxNewTokens: 12 }).result;
  const answer = await generate(first, 3);
  expect(answer.meta_info.cached_tokens).toBe(0);
  const turn = [...first, ...answer.tokens, 11, 12, 13];
  const warm = await generate(turn, 3);
  // All but the answer's last token, which no pass was fed yet.
  expect(warm.meta_info.cached_tokens).toBe(first.length + answer.tokens.length - 1);
  expect(warm.meta_info.prompt_tokens).toBe(turn.length);
  // Costs are measured in the same caches.
  await engine.measureCosts({ sampleCount: 1 });
  const cold = await generate(turn, 0);
  expect(cold.meta_info.cached_tokens).toBe(0);
  expect(warm.tokens).toEqual(cold.tokens);
});

it('a draft of random weights costs time and no token', async () => {
  const tokenizer = await embeddedFiles('stories-3m', ['tokenizer.json', 'tokenizer_config.json']);
  const draft = randomModel({ ...embeddedShape, vocab_size: 2048, num_hidden_layers: 1 }, 41);
  const draftSource = memorySource('random-draft', randomFolder(draft, tokenizer));
  const engine = await openEngine(embeddedSource('stories-3m'), draftSource);
  const generate = (draftLength: number) => engine.generate(prompt, { draftLength, maxNewTokens: 13 }).result;
  const plain = await generate(0);
  const { tokens, stats, meta_info: meta } = await generate(3);
  expect(tokens).toEqual(plain.tokens);
  // One token in 2,048 would be right by chance.
  expect(meta.spec_accept_rate).toBeLessThan(0.1);
  expect(meta.spec_num_proposed_drafts).toBe(3 * stats.roundCount);
  expect(stats.roundCount).toBeGreaterThan(8);
});
