/** The config.json of published models, and what Hugging Face transformers makes of each. */
import { describe, expect, test } from 'vitest';
import { type ModelConfig, parseConfig } from '../../../src/model/config.ts';
import { inverseFrequencies, type RopeConfig } from '../../../src/model/rope.ts';
import { tensorShapes } from '../../../src/model/tensors.ts';
import configs from '../../reference/data/published/configs.json';
import facts from '../../reference/data/published/transformers.json';

type ModelName = keyof typeof configs;
const names = Object.keys(configs) as ModelName[];
const parse = (name: ModelName, changes: Record<string, unknown> = {}): ModelConfig =>
  parseConfig({ ...configs[name], ...changes }, `${name}/config.json`);

const relativeDifference = (got: readonly number[], expected: readonly number[]): number => {
  expect(got.length).toBe(expected.length);
  return Math.max(...got.map((value, i) => Math.abs(value / (expected[i] as number) - 1)));
};

describe.each(names)('%s', (name) => {
  const config = parse(name);
  const fact = facts[name];

  test('windows, scale of the scores and epsilon', () => {
    expect(config.windows).toEqual(fact.windows);
    expect(config.attentionScale).toBeCloseTo(fact.attentionScale, 12);
    expect(config.rmsNormEps).toBe(fact.normEps);
  });

  test.each(['full', 'sliding'] as const)('inverse frequencies of %s layers', (kind) => {
    const rope: RopeConfig = config.ropes[kind];
    const { inverseFrequencies: expected, attentionFactor } = fact.ropes[kind];
    expect(relativeDifference(inverseFrequencies(rope), expected)).toBeLessThan(1e-11);
    expect(rope.scaling.type === 'longrope' ? rope.scaling.attentionFactor : 1).toBeCloseTo(attentionFactor, 12);
  });

  test('names and shapes of the tensors', () => {
    const shapes = tensorShapes(config);
    expect(shapes.size).toBe(fact.tensorCount);
    for (const [tensor, shape] of Object.entries(fact.tensors)) {
      for (let layer = 0; layer < config.layerCount; layer++) {
        expect(shapes.get(tensor.replace('.layers.0.', `.layers.${layer}.`))).toEqual(shape);
      }
    }
  });
});

test.each<[ModelName, Partial<ModelConfig>]>([
  ['HuggingFaceTB/SmolLM2-135M-Instruct', { architecture: 'llama', headDim: 64, kvHeadCount: 3, tiedEmbeddings: true }],
  [
    'meta-llama/Llama-3.2-1B',
    { architecture: 'llama', maxContextLength: 131_072, eosTokenIds: [128_001], bosTokenId: 128_000 },
  ],
  ['mistralai/Mistral-7B-v0.1', { architecture: 'mistral', windows: new Array(32).fill(4096), attentionBias: false }],
  ['mistralai/Mistral-7B-v0.3', { windows: new Array(32).fill(null), vocabSize: 32_768 }],
  [
    'Qwen/Qwen2.5-0.5B',
    {
      architecture: 'qwen2',
      attentionBias: true,
      attentionOutputBias: false,
      mlpBias: false,
      windows: new Array(24).fill(null),
    },
  ],
  ['Qwen/Qwen3-0.6B', { architecture: 'qwen3', qkNorm: 'head', headDim: 128, hiddenSize: 1024, attentionBias: false }],
  [
    'google/gemma-3-270m',
    {
      architecture: 'gemma3',
      qkNorm: 'head',
      norms: 'both',
      normOffset: 1,
      activation: 'gelu_tanh',
      tiedEmbeddings: true,
      embeddingScale: Math.sqrt(640),
      attentionScale: 1 / 16,
    },
  ],
  ['google/gemma-3-1b-it', { architecture: 'gemma3', eosTokenIds: [1, 106], embeddingScale: Math.sqrt(1152) }],
  [
    'microsoft/Phi-3-mini-4k-instruct',
    { architecture: 'phi3', fusedProjections: true, headDim: 96, windows: new Array(32).fill(2047) },
  ],
  // The context within which the short factors hold.
  ['microsoft/Phi-4-mini-instruct', { architecture: 'phi3', headDim: 128, maxContextLength: 4096 }],
  ['allenai/OLMo-2-0425-1B', { architecture: 'olmo2', qkNorm: 'full', norms: 'after', tiedEmbeddings: false }],
])('%s: what makes it differ', (name, expected) => {
  expect(parse(name)).toMatchObject(expected);
});

describe('Gemma 3 in its older and newer forms', () => {
  const gemma = parse('google/gemma-3-1b-it');
  const {
    rope_theta: _,
    rope_local_base_freq: __,
    sliding_window_pattern: ___,
    ...bare
  } = configs['google/gemma-3-1b-it'];
  const parseBare = (entries: Record<string, unknown>) => parseConfig({ ...bare, ...entries }, 'x');
  const layerTypes = Array.from({ length: 26 }, (_, i) => (i % 6 === 5 ? 'full_attention' : 'sliding_attention'));
  const scaledBy8 = {
    ...gemma,
    ropes: { full: { ...gemma.ropes.full, scaling: { type: 'linear', factor: 8 } }, sliding: gemma.ropes.sliding },
  };

  test('its own rotations', () => {
    expect(gemma.ropes).toEqual({
      full: { theta: 1_000_000, rotaryDim: 256, scaling: { type: 'none' } },
      sliding: { theta: 10_000, rotaryDim: 256, scaling: { type: 'none' } },
    });
  });

  test('with layer_types and a rope per layer type', () => {
    const ropes = {
      full_attention: { rope_type: 'default', rope_theta: 1_000_000 },
      sliding_attention: { rope_type: 'default', rope_theta: 10_000 },
    };
    expect(parseBare({ layer_types: layerTypes, rope_parameters: ropes })).toEqual(gemma);
  });

  test('with the thetas beside ropes that lack them', () => {
    const ropes = { full_attention: { factor: 8, rope_type: 'linear' }, sliding_attention: { rope_type: 'default' } };
    const thetas = { rope_theta: 1_000_000, rope_local_base_freq: 10_000, rope_scaling: null };
    expect(parseBare({ ...thetas, rope_parameters: ropes, sliding_window_pattern: 6 })).toEqual(scaledBy8);
  });

  test('scaled as in the larger sizes: full-attention layers only', () => {
    const scaling = { factor: 8, rope_type: 'linear' };
    expect(parse('google/gemma-3-1b-it', { rope_scaling: scaling })).toEqual(scaledBy8);
  });

  test('with nothing said, the defaults of the class', () => {
    expect(parseBare({})).toEqual(gemma);
  });
});

test('Qwen2 with windows: from max_window_layers on, or as layer_types says', () => {
  const windows = (changes: Record<string, unknown>) => parse('Qwen/Qwen2.5-0.5B', changes).windows;
  const expected = (count: number) => [...new Array(count).fill(null), ...new Array(24 - count).fill(32_768)];
  expect(windows({ use_sliding_window: true, max_window_layers: 21 })).toEqual(expected(21));
  expect(windows({ use_sliding_window: false, max_window_layers: 21 })).toEqual(expected(24));
  expect(windows({ use_sliding_window: true, max_window_layers: 0 })).toEqual(expected(0));
  expect(windows({ use_sliding_window: true, max_window_layers: undefined })).toEqual(expected(24));
  const types = [...new Array(3).fill('full_attention'), ...new Array(21).fill('sliding_attention')];
  expect(windows({ use_sliding_window: true, layer_types: types })).toEqual(expected(3));
});

test('Mistral: a window left out is the default one, null is none', () => {
  const windows = (window: unknown) => parse('mistralai/Mistral-7B-v0.3', { sliding_window: window }).windows[0];
  expect([windows(undefined), windows(null), windows(100)]).toEqual([4096, null, 100]);
});

test('query_pre_attn_scalar scales the scores in Gemma 3, left out too, and in no other family', () => {
  const scale = (name: ModelName, scalar: unknown) => parse(name, { query_pre_attn_scalar: scalar }).attentionScale;
  expect(scale('google/gemma-3-1b-it', 168)).toBe(168 ** -0.5);
  expect(parse('google/gemma-3-1b-it', { query_pre_attn_scalar: undefined, head_dim: 128 }).attentionScale).toBe(
    1 / 16,
  );
  expect(scale('Qwen/Qwen3-0.6B', 256)).toBe(128 ** -0.5);
});

test('kv heads left out are the family’s default, null as many as heads', () => {
  const heads = (name: ModelName, count: unknown) => parse(name, { num_key_value_heads: count }).kvHeadCount;
  expect(heads('mistralai/Mistral-7B-v0.1', undefined)).toBe(8);
  expect(heads('mistralai/Mistral-7B-v0.1', null)).toBe(32);
  expect(heads('google/gemma-3-270m', undefined)).toBe(4);
  expect(heads('allenai/OLMo-2-0425-1B', undefined)).toBe(16);
});

test.each<[ModelName, Record<string, unknown>, RegExp]>([
  ['meta-llama/Llama-3.2-1B', { sliding_window: 4096 }, /sliding_window 4096 .*only null/],
  ['meta-llama/Llama-3.2-1B', { partial_rotary_factor: 0.5 }, /partial_rotary_factor 0\.5 .*only 1/],
  ['Qwen/Qwen3-0.6B', { rope_scaling: { rope_type: 'yarn', factor: 4 } }, /rope_type "yarn".*"linear".*"longrope"/],
  ['Qwen/Qwen3-0.6B', { layer_types: new Array(28).fill('chunked_attention') }, /layer_types .*"full_attention"/],
  [
    'mistralai/Mistral-7B-v0.1',
    { layer_types: new Array(32).fill('full_attention') },
    /layer_types .*only "sliding_attention"/,
  ],
  ['google/gemma-3-1b-it', { final_logit_softcapping: 30 }, /final_logit_softcapping 30/],
  ['google/gemma-3-1b-it', { attn_logit_softcapping: 50 }, /attn_logit_softcapping 50/],
  ['google/gemma-3-1b-it', { use_bidirectional_attention: true }, /use_bidirectional_attention true/],
  ['google/gemma-3-1b-it', { hidden_activation: 'silu' }, /hidden_activation "silu".*"gelu_pytorch_tanh"/],
  ['microsoft/Phi-4-mini-instruct', { partial_rotary_factor: 0.7 }, /partial_rotary_factor 0\.7 .*even part/],
])('%s: refused by name (%#)', (name, changes, message) => {
  expect(() => parse(name, changes)).toThrow(message);
});

test('what contradicts itself is malformed', () => {
  const sliding = new Array(24).fill('sliding_attention');
  expect(() => parse('Qwen/Qwen2.5-0.5B', { layer_types: sliding })).toThrow(/sliding_window must be in use/);
  const { rope_scaling: scaling } = configs['microsoft/Phi-4-mini-instruct'];
  const shorter = { ...scaling, short_factor: scaling.short_factor.slice(1) };
  expect(() => parse('microsoft/Phi-4-mini-instruct', { rope_scaling: shorter })).toThrow(/short_factor .*48 numbers/);
  expect(() => parse('microsoft/Phi-4-mini-instruct', { original_max_position_embeddings: null })).toThrow(
    /original_max_position_embeddings/,
  );
});
