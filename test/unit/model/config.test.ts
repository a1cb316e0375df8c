import { describe, expect, test } from 'vitest';
import { ModelFormatError, UnsupportedModelError } from '../../../src/errors.ts';
import { applyGenerationConfig, parseConfig } from '../../../src/model/config.ts';

const minimal = {
  architectures: ['LlamaForCausalLM'],
  hidden_size: 64,
  intermediate_size: 172,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  vocab_size: 100,
  max_position_embeddings: 128,
};
const parse = (entries: Record<string, unknown> = {}) => parseConfig({ ...minimal, ...entries }, 'x/config.json');

describe('parseConfig', () => {
  test('defaults are those of the Llama class', () => {
    expect(parse()).toEqual({
      architecture: 'llama',
      modelType: 'llama',
      hiddenSize: 64,
      ffnSize: 172,
      layerCount: 2,
      headCount: 4,
      kvHeadCount: 4,
      headDim: 16,
      vocabSize: 100,
      maxContextLength: 128,
      rmsNormEps: 1e-6,
      qkNorm: 'none',
      norms: 'before',
      normOffset: 0,
      activation: 'silu',
      fusedProjections: false,
      embeddingScale: 1,
      attentionScale: 0.25,
      ropes: {
        full: { theta: 10000, rotaryDim: 16, scaling: { type: 'none' } },
        sliding: { theta: 10000, rotaryDim: 16, scaling: { type: 'none' } },
      },
      windows: [null, null],
      tiedEmbeddings: false,
      attentionBias: false,
      attentionOutputBias: false,
      mlpBias: false,
      bosTokenId: null,
      eosTokenIds: [],
    });
  });

  test('the config of a published model (SmolLM2-135M-Instruct)', () => {
    const config = parseConfig(
      {
        architectures: ['LlamaForCausalLM'],
        attention_bias: false,
        attention_dropout: 0.0,
        bos_token_id: 1,
        eos_token_id: 2,
        hidden_act: 'silu',
        hidden_size: 576,
        initializer_range: 0.041666666666666664,
        intermediate_size: 1536,
        is_llama_config: true,
        max_position_embeddings: 8192,
        mlp_bias: false,
        model_type: 'llama',
        num_attention_heads: 9,
        num_hidden_layers: 30,
        num_key_value_heads: 3,
        pad_token_id: 2,
        pretraining_tp: 1,
        rms_norm_eps: 1e-5,
        rope_interleaved: false,
        rope_scaling: null,
        rope_theta: 100000,
        tie_word_embeddings: true,
        torch_dtype: 'bfloat16',
        'transformers.js_config': { kv_cache_dtype: { q4f16: 'float16' } },
        use_cache: true,
        vocab_size: 49152,
      },
      'config.json',
    );
    expect(config).toMatchObject({ headDim: 64, headCount: 9, kvHeadCount: 3, eosTokenIds: [2] });
  });

  test.each([
    [{ head_dim: 20 }, { headDim: 20 }],
    [
      { head_dim: null, num_key_value_heads: null },
      { headDim: 16, kvHeadCount: 4 },
    ],
    [{ num_key_value_heads: 1 }, { kvHeadCount: 1 }],
    [{ attention_bias: true }, { attentionBias: true, attentionOutputBias: true, mlpBias: false }],
    [{ mlp_bias: true }, { attentionBias: false, mlpBias: true }],
    [
      { eos_token_id: [3, 5, 3], bos_token_id: 99 },
      { eosTokenIds: [3, 5], bosTokenId: 99 },
    ],
    [{ rope_scaling: { type: 'default' } }, { ropes: { full: { theta: 10000 } } }],
    [{ rope_parameters: { rope_type: 'default', rope_theta: 5e5 } }, { ropes: { full: { theta: 5e5 } } }],
    [{ rope_theta: 1e4, rope_scaling: { rope_type: 'default', rope_theta: 2e4 } }, { ropes: { full: { theta: 2e4 } } }],
    [{ layer_types: ['full_attention', 'full_attention'], sliding_window: null }, { layerCount: 2 }],
    [{ architectures: undefined, model_type: 'llama' }, { modelType: 'llama' }],
    [{ hidden_act: 'swish' }, { hiddenSize: 64 }],
  ])('%j', (entries, expected) => {
    expect(parse(entries)).toMatchObject(expected);
  });

  test.each<[Record<string, unknown>, RegExp]>([
    [
      { architectures: ['BloomForCausalLM'] },
      /architectures \["BloomForCausalLM"\].*LlamaForCausalLM.*Qwen3ForCausalLM/,
    ],
    [{ model_type: 'qwen2' }, /model_type "qwen2".*only "llama"/],
    [{ hidden_act: 'gelu_pytorch_tanh' }, /hidden_act "gelu_pytorch_tanh"/],
    [{ hidden_act: null }, /hidden_act null/],
    [{ rope_scaling: { factor: 2 } }, /rope_scaling/],
    [{ rope_parameters: { rope_type: 'yarn', factor: 4 } }, /rope_type "yarn".*llama3/],
    [{ rope_parameters: { rope_type: 'default', partial_rotary_factor: 0.5 } }, /partial_rotary_factor 0\.5/],
    [{ partial_rotary_factor: 0.25 }, /partial_rotary_factor 0\.25/],
    [{ rope_interleaved: true }, /rope_interleaved true/],
    [{ sliding_window: 4096 }, /sliding_window 4096/],
    [{ layer_types: ['full_attention', 'sliding_attention'] }, /layer_types .*sliding_attention/],
    [{ quantization_config: { bits: 8 } }, /quantization_config/],
    [{ head_dim: 18 }, /head_dim 18 .*multiples of 4/],
    [{ hidden_size: 66, num_attention_heads: 3, head_dim: 4 }, /hidden_size 66 .*multiples of 4/],
    [{ intermediate_size: 174 }, /intermediate_size 174 .*multiples of 4/],
  ])('unsupported: %j', (entries, message) => {
    expect(() => parse(entries)).toThrow(UnsupportedModelError);
    expect(() => parse(entries)).toThrow(message);
    expect(() => parse(entries)).toThrow(/^x\/config\.json: .* is not supported, only /);
  });

  test.each<[Record<string, unknown>, RegExp]>([
    [{ architectures: undefined }, /architectures or model_type/],
    [{ architectures: 'LlamaForCausalLM' }, /architectures must be a list of strings/],
    [{ model_type: 7 }, /model_type must be a string/],
    [{ hidden_size: undefined }, /hidden_size must be a whole number.*got nothing/],
    [{ hidden_size: '64' }, /hidden_size .*got "64"/],
    [{ hidden_size: Number.NaN }, /hidden_size .*got NaN/],
    [{ hidden_size: 64.5 }, /hidden_size .*got 64\.5/],
    [{ hidden_size: 2 ** 30 }, /hidden_size .*got 1073741824/],
    [{ intermediate_size: -4 }, /intermediate_size .*got -4/],
    [{ num_hidden_layers: 0 }, /num_hidden_layers .*got 0/],
    [{ num_hidden_layers: 1e9 }, /num_hidden_layers .*got 1000000000/],
    [{ num_attention_heads: [4] }, /num_attention_heads .*got \[4\]/],
    [{ num_attention_heads: 5 }, /hidden_size \(64\) must be a multiple of num_attention_heads, got 5/],
    [{ num_key_value_heads: 3 }, /num_attention_heads \(4\) must be a multiple of num_key_value_heads, got 3/],
    [{ num_key_value_heads: 8 }, /must be a multiple of num_key_value_heads, got 8/],
    [{ vocab_size: 1e12 }, /vocab_size/],
    [{ max_position_embeddings: undefined }, /max_position_embeddings/],
    [{ rms_norm_eps: 0 }, /rms_norm_eps/],
    [{ rms_norm_eps: Number.NaN }, /rms_norm_eps .*NaN/],
    [{ rope_theta: Number.POSITIVE_INFINITY }, /rope_theta .*Infinity/],
    [{ rope_theta: '10000' }, /rope_theta/],
    [{ rope_scaling: 'none' }, /rope_scaling must be an object or null/],
    [{ tie_word_embeddings: 'true' }, /tie_word_embeddings must be true or false/],
    [{ attention_bias: 1 }, /attention_bias must be true or false/],
    [{ eos_token_id: 100 }, /eos_token_id .*0 to 99.*got 100/],
    [{ eos_token_id: [1, null] }, /eos_token_id .*got null/],
    [{ bos_token_id: -1 }, /bos_token_id .*got -1/],
  ])('malformed: %j', (entries, message) => {
    expect(() => parse(entries)).toThrow(ModelFormatError);
    expect(() => parse(entries)).toThrow(message);
    expect(() => parse(entries)).toThrow(/^x\/config\.json: /);
  });

  test.each([null, [], 'x', 3])('%j is no config', (json) => {
    expect(() => parseConfig(json, 'x')).toThrow(/expected a JSON object/);
  });
});

test('generation_config.json decides where it says something', () => {
  const config = parse({ eos_token_id: 1 });
  expect(applyGenerationConfig(config, { eos_token_id: [2, 3] }, 'g').eosTokenIds).toEqual([2, 3]);
  expect(applyGenerationConfig(config, { eos_token_id: 4 }, 'g').eosTokenIds).toEqual([4]);
  expect(applyGenerationConfig(config, { temperature: 1 }, 'g').eosTokenIds).toEqual([1]);
  expect(() => applyGenerationConfig(config, { eos_token_id: 100 }, 'g')).toThrow(/^g: eos_token_id/);
  expect(() => applyGenerationConfig(config, null, 'g')).toThrow(ModelFormatError);
});
