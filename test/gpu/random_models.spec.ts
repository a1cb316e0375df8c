/** Checkpoints of random weights and odd shapes through the library's own loader, against their float64 twins. */
import { describe, expect, it } from 'vitest';
import { packedBytes, type WeightFormat } from '../../src/kernels/packed.ts';
import { createForward, type Forward } from '../../src/model/forward.ts';
import { openModel, readWeights } from '../../src/model/load.ts';
import type { OpenedModel } from '../../src/model/opened_model.ts';
import { uploadWeights, weightFormats } from '../../src/model/weights.ts';
import { createReferenceModel } from '../reference/forward.ts';
import { referenceGreedy, teacherForcedGaps } from '../reference/generate.ts';
import { createRandom } from '../reference/random.ts';
import { type RandomModel, type RandomModelOptions, randomModel } from '../reference/random_model.ts';
import { memorySource, openEngine, randomFolder, withoutLastLayer } from './engine_bench.ts';
import { bitsOf, feed, readLogits } from './forward_bench.ts';
import { device, expectClose, withShaders } from './kernel_bench.ts';

const variants: Record<string, RandomModelOptions> = {
  // hidden 44, ffn 36, 6 heads of 20 on 2 kv heads, biases, a head of its own
  'F16, biases, untied': {},
  'BF16, no biases, tied, as many kv heads as heads': {
    dtype: 'BF16',
    attention_bias: false,
    mlp_bias: false,
    tie_word_embeddings: true,
    hidden_size: 72,
    intermediate_size: 100,
    num_attention_heads: 3,
    num_key_value_heads: 3,
    head_dim: 12,
    rope_theta: 500,
  },
  'F32, attention biases, one kv head, more than one chunk of vocabulary': {
    dtype: 'F32',
    mlp_bias: false,
    num_hidden_layers: 1,
    hidden_size: 260,
    intermediate_size: 516,
    num_attention_heads: 4,
    num_key_value_heads: 1,
    head_dim: 68,
    vocab_size: 1031,
    rms_norm_eps: 0.5, // large enough to be missed
  },
};
// The engine packs matrices in F16; what that costs is not the kernels' error.
const twinOf = ({ config, tensors }: RandomModel) =>
  createReferenceModel(config, tensors, { matricesAsFloat16: true, cacheAsFloat16: true });

async function forwardOf(
  files: OpenedModel,
  { dtype = 'f16', ...options }: { dtype?: WeightFormat; partBytes?: number } = {},
): Promise<Forward> {
  const rows = readWeights(files, 'target');
  const weights = await uploadWeights(device(), 'random', files, rows, weightFormats(files, dtype), options);
  const { maxContextLength: contextLength } = files.config;
  const size = { slots: 1, contextLength, rowCapacity: 80, paddedRows: false };
  return createForward(device(), 'random', files.config, weights, size);
}

describe('the forward pass', () => {
  it.each([
    ['F16, biases, untied', 'f16'],
    ['BF16, no biases, tied, as many kv heads as heads', 'q8'],
    ['F32, attention biases, one kv head, more than one chunk of vocabulary', 'q4'],
  ] as const)('%s: matrices of %s in parts that a small binding holds, the bits of one part', async (name, dtype) => {
    const files = await openModel(
      memorySource('random', randomFolder(randomModel(variants[name] as RandomModelOptions, 63))),
      'target',
    );
    const { vocabSize, hiddenSize, ffnSize, layerCount } = files.config;
    // Every token, the last ones of the parts and the first ones of the next among them.
    const tokens = Array.from({ length: 72 }, (_, i) => Math.floor((i * (vocabSize - 1)) / 71));
    const whole = await forwardOf(files, { dtype });
    const { words } = packedBytes({ outputSize: 2 * ffnSize, inputSize: hiddenSize }, dtype);
    const split = await forwardOf(files, { dtype, partBytes: words / 2 });
    expect(whole.head.length).toBe(1);
    expect(split.head.length).toBeGreaterThan(2);
    expect(split.dispatchesPerLayer).toBeGreaterThan(whole.dispatchesPerLayer);
    expect(split.body.few.length - whole.body.few.length).toBe(
      split.head.length - whole.head.length + layerCount * (split.dispatchesPerLayer - whole.dispatchesPerLayer),
    );
    // In a tile, and in few rows behind it.
    for (const [start, fed, outputs] of [
      [0, tokens, 1],
      [0, tokens, 8],
      [72, tokens.slice(0, 6), 6],
    ] as const) {
      for (const forward of [whole, split]) feed(forward, fed, start, outputs);
      const [expected, got] = [
        await readLogits(whole, vocabSize, outputs),
        await readLogits(split, vocabSize, outputs),
      ];
      expect(got.map(bitsOf)).toEqual(expected.map(bitsOf));
    }
  });

  it.each(Object.entries(variants))(
    '%s: the twin’s logits, in few rows and in tiles, over three KV blocks',
    async (_, options) => {
      const model = randomModel(options, 61);
      const files = await openModel(memorySource('random', randomFolder(model)), 'target');
      const { config } = files;
      const forward = await forwardOf(files);
      const chunks = [1, 2, 3, 5, 8, 9, 40, 7, 80, 4];
      const random = createRandom(62);
      const tokens = Array.from({ length: 159 }, () => random.integer(config.vocabSize));
      const twinLogits = twinOf(model).forward(tokens, 0);
      let start = 0;
      for (const rows of chunks) {
        const outputs = Math.min(rows, 8);
        feed(forward, tokens.slice(start, start + rows), start, outputs);
        start += rows;
        const logits = await readLogits(forward, config.vocabSize, outputs);
        for (const [i, row] of logits.entries())
          expectClose(row, twinLogits[start - outputs + i] as Float64Array, 1e-3); // f16 in the cache tips over now and then
      }
      expect(start).toBe(tokens.length);
    },
  );
});

describe('speculation', () => {
  it.each([0, 1])('random pair %i: every k gives the tokens of k = 0, which are the twin’s', async (index) => {
    const name = Object.keys(variants)[index] as string;
    const target = randomModel(variants[name] as RandomModelOptions, 63);
    const engine = await openEngine(
      memorySource('random-target', randomFolder(target)),
      memorySource('random-draft', randomFolder(withoutLastLayer(target))),
    );
    const twin = twinOf(target);
    const random = createRandom(64);
    const rates = new Set<number>();
    for (const length of [1, 70]) {
      const prompt = Array.from({ length }, () => random.integer(259));
      const generate = (draftLength: number) => engine.generate(prompt, { draftLength, maxNewTokens: 16 }).result;
      const { tokens } = await generate(0);
      expect(tokens.length).toBe(16);
      expect(Math.max(...teacherForcedGaps(twin, prompt, tokens))).toBeLessThan(1e-3);
      expect(tokens).toEqual(referenceGreedy(twin, prompt, 16, []).tokens);
      for (const k of [1, 3, 7]) {
        const result = await generate(k);
        expect({ k, tokens: result.tokens }).toEqual({ k, tokens });
        rates.add(result.meta_info.spec_accept_rate as number);
      }
    }
    expect(Math.max(...rates)).toBeGreaterThan(0.1);
    expect(Math.min(...rates)).toBeLessThan(0.9);
  });
});

it('a device on which variants round differently: one pipeline of each for every pass, and the same tokens', async () => {
  const model = randomModel({ max_position_embeddings: 256 }, 77);
  const [target, draft] = [
    memorySource('t', randomFolder(model)),
    memorySource('d', randomFolder(withoutLastLayer(model))),
  ];
  const prompt = Array.from({ length: 40 }, (_, i) => 10 + i);
  const decode = async () => {
    const engine = await openEngine(target, draft);
    const generate = async (draftLength: number) =>
      (await engine.generate(prompt, { draftLength, maxNewTokens: 16, ignoreEos: true }).result).tokens;
    return {
      padded: engine.info.paddedRows,
      lossless: engine.info.lossless,
      tokens: [await generate(0), await generate(3)],
    };
  };
  const usual = await decode();
  expect(usual).toMatchObject({ padded: false, lossless: 'exact' });
  expect(usual.tokens[1]).toEqual(usual.tokens[0]);
  const used = new Set<string>();
  const planted = await withShaders((label, code) => {
    used.add(label);
    return label === 'matmul_rows FORMAT=0 ROWS=2' ? code.replace('s = 0u; s <', 's = 1u; s <') : code;
  }, decode);
  expect(planted).toEqual({ ...usual, padded: true });
  const attention = [...used].filter((label) => label.startsWith('attention HEAD_DIM'));
  expect(attention.length).toBeGreaterThan(1); // the self-test tries them
});
