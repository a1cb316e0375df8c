/**
 * A pair with one tokenizer whose embeddings have different numbers of rows (as Qwen2.5's sizes have): the rows behind the
 * tokens are padding. The draft model may propose ids that the target has no row for; none may be committed.
 */
import { beforeAll, describe, expect, it } from 'vitest';
import type { Engine, GenerateOptions } from '../../src/types.ts';
import { type ReferenceConfig, writeSafetensors } from '../reference/checkpoint.ts';
import { encodeFloat16 } from '../reference/float_formats.ts';
import { createReferenceModel, type ReferenceModel } from '../reference/forward.ts';
import { referenceSpeculativeSampled } from '../reference/generate_sampled.ts';
import { createRandom } from '../reference/random.ts';
import { type RandomModel, randomModel } from '../reference/random_model.ts';
import { noWarping, type SamplingOptions } from '../reference/warp.ts';
import { jsonBytes, type ModelFolder, memorySource, openEngine, randomFolder, withSeedWords } from './engine_bench.ts';

const tokenCount = 259;
const maxNewTokens = 24;

/** A twin that reads any id, as the kernels do: one that it has no row for is as good as its last. */
function clamped({ config, tensors }: Pick<RandomModel, 'config' | 'tensors'>): ReferenceModel {
  const model = createReferenceModel(config, tensors, { matricesAsFloat16: true, cacheAsFloat16: true });
  const last = config.vocabSize - 1;
  return {
    ...model,
    forward: (tokens, start) =>
      model.forward(
        tokens.map((token) => Math.min(token, last)),
        start,
      ),
  };
}

/** The first layer of a model, with more rows or fewer in embedding and head. Further rows are as likely as tokens. */
function paddedDraft({ configJson, config, tensors }: RandomModel, vocabSize: number) {
  const random = createRandom(71);
  const padded = new Map([...tensors].filter(([name]) => !name.startsWith('model.layers.1.')));
  for (const name of ['model.embed_tokens.weight', 'lm_head.weight']) {
    const { data, dtype } = padded.get(name)!;
    const rows = new Uint16Array(vocabSize * config.hiddenSize);
    const kept = new Uint16Array(data.slice().buffer).subarray(0, rows.length);
    rows.set(kept);
    const scale = name === 'lm_head.weight' ? 1.5 / Math.sqrt(config.hiddenSize) : 1;
    for (let i = kept.length; i < rows.length; i++) rows[i] = encodeFloat16(scale * random.normal());
    padded.set(name, { dtype, shape: [vocabSize, config.hiddenSize], data: new Uint8Array(rows.buffer) });
  }
  const changes = { num_hidden_layers: 1, vocab_size: vocabSize };
  const draftConfig: ReferenceConfig = { ...config, layerCount: 1, windows: [null], vocabSize };
  return {
    configJson: { ...configJson, ...changes },
    safetensors: writeSafetensors(padded),
    twin: clamped({ config: draftConfig, tensors: padded }),
  };
}

describe.each([
  ['more', tokenCount, 400],
  ['fewer', 400, tokenCount],
])('a draft model with %s rows than the target', (_, targetRows, draftRows) => {
  const target = randomModel({ vocab_size: targetRows }, 72);
  const draft = paddedDraft(target, draftRows);
  const prompt = [5, 250, 17];
  let engine: Engine;
  beforeAll(async () => {
    const vocab = Object.fromEntries(Array.from({ length: tokenCount }, (_, id) => [`t${id}`, id]));
    const tokenizer: ModelFolder = new Map([
      ['tokenizer.json', jsonBytes({ model: { type: 'BPE', vocab, merges: [] } })],
    ]);
    engine = await openEngine(
      memorySource('target', randomFolder(target, tokenizer)),
      memorySource('draft', randomFolder(draft, tokenizer)),
    );
  });

  it.each<[string, GenerateOptions]>([
    ['greedy', {}],
    ['seeded', { temperature: 1, seed: 7 }],
    [
      'seeded, with penalties and a bias',
      { temperature: 0.9, seed: 8, repetitionPenalty: 1.4, frequencyPenalty: 0.5, logitBias: { 17: 6, 200: 5 } },
    ],
    ['greedy, with penalties', { presencePenalty: 2, repetitionPenalty: 1.2, minNewTokens: 5 }],
  ])('%s: the text of k = 0', async (_, options) => {
    const plain = await engine.generate(prompt, { ...options, maxNewTokens, draftLength: 0 }).result;
    expect(plain.tokens.length).toBe(maxNewTokens);
    for (const draftLength of [2, 7]) {
      const { tokens, stats } = await engine.generate(prompt, { ...options, maxNewTokens, draftLength }).result;
      expect({ draftLength, tokens }).toEqual({ draftLength, tokens: plain.tokens });
      expect(stats.acceptedCount).toBeGreaterThan(0);
    }
  });

  it('unseeded: the tokens of the twin, and nothing beyond the target’s rows', async () => {
    const twin = clamped(target);
    const committed: number[] = [];
    let refused = 0;
    for (const seed of [
      [1, 2],
      [3, 4],
      [5, 6],
    ] as const) {
      const sampling = { temperature: 1, repetitionPenalty: 1.3 };
      const options = { ...sampling, logitBias: { 17: 3 }, maxNewTokens, draftLength: 3 };
      const { tokens, stats } = await withSeedWords(seed, () => engine.generate(prompt, options).result);
      const warping: SamplingOptions = { ...noWarping, ...sampling, logitBias: [[17, 3]] };
      const request = { promptTokens: prompt, maxNewTokens, contextLength: 256, options: warping, seed };
      const expected = referenceSpeculativeSampled(twin, draft.twin, request, 3, 'rejection');
      expect(expected.margin).toBeGreaterThan(1e-6);
      expect(tokens).toEqual(expected.tokens);
      committed.push(...tokens);
      refused += stats.draftedCount - stats.acceptedCount;
    }
    expect(Math.max(...committed)).toBeLessThan(targetRows);
    expect(refused).toBeGreaterThan(0);
  });
});
