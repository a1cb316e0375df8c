/** The engine's promise: speculation changes the time, never the tokens, whatever the draft. */
import { expect, it } from 'vitest';
import { prompts } from '../reference/prompts.ts';
import { randomModel } from '../reference/random_model.ts';
import { embeddedFiles, embeddedSource, memorySource, openEngine, randomFolder } from './engine_bench.ts';
import { describeEqualityGrid } from './equality_grid.ts';

// Every k and every prompt: test/nightly. Prompt 14 ends in its first round.
describeEqualityGrid({
  promptIndices: [10, 14, 18],
  draftLengths: [1, 2, 4, 7],
  roundsInFlight: [2, 3],
  maxNewTokens: 16,
});

const prompt = prompts[2] as string;

it('the target as its own draft accepts everything: 16 tokens after the first take 16 / (k + 1) rounds', async () => {
  const source = embeddedSource('stories-3m');
  const engine = await openEngine(source, source, { roundsInFlight: 3 });
  const generate = (draftLength: number) => engine.generate(prompt, { draftLength, maxNewTokens: 17 }).result;
  const plain = await generate(0);
  for (const k of [1, 3, 7]) {
    const { tokens, stats, meta_info: meta } = await generate(k);
    expect({ k, tokens }).toEqual({ k, tokens: plain.tokens });
    expect(meta.spec_accept_rate).toBe(1);
    expect(stats.roundCount).toBe(16 / (k + 1));
  }
});

it('a draft of random weights costs time and no token', async () => {
  const tokenizer = await embeddedFiles('stories-3m', ['tokenizer.json', 'tokenizer_config.json']);
  // Like the target in what shaders are compiled for: that saves seconds.
  const shape = { head_dim: 64, attention_bias: false, mlp_bias: false, max_position_embeddings: 1024 };
  const draft = randomModel({ ...shape, vocab_size: 2048, num_hidden_layers: 1 }, 41);
  const draftSource = memorySource('random-draft', randomFolder(draft, tokenizer));
  const engine = await openEngine(embeddedSource('stories-3m'), draftSource);
  const generate = (draftLength: number) => engine.generate(prompt, { draftLength, maxNewTokens: 13 }).result;
  const plain = await generate(0);
  for (const k of [1, 3, 7]) {
    const { tokens, stats, meta_info: meta } = await generate(k);
    expect({ k, tokens }).toEqual({ k, tokens: plain.tokens });
    // One token in 2,048 would be right by chance.
    expect(meta.spec_accept_rate).toBeLessThan(0.1);
    expect(meta.spec_num_proposed_drafts).toBe(k * stats.roundCount);
    expect(stats.roundCount).toBeGreaterThan(8);
  }
});
