import { describe, expect, test } from 'vitest';
import { ModelFormatError, UnsupportedModelError } from '../../../src/errors.ts';
import { applyGenerationConfig, parseConfig } from '../../../src/model/config.ts';
import { parseSafetensors, type StoredTensor } from '../../../src/model/safetensors.ts';
import { checkTensors, tensorShapes } from '../../../src/model/tensors.ts';
import { jsonOf, readFolder } from './folders.ts';

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

describe('tensors', () => {
  const fill = (entries: Record<string, unknown> = {}) => {
    const config = parse(entries);
    const tensors = new Map<string, StoredTensor>();
    for (const [name, shape] of tensorShapes(config))
      tensors.set(name, { dtype: 'F16', shape, data: new Uint8Array(0) });
    return { config, tensors };
  };
  const extra = (dtype = 'F16') => ({ dtype, shape: [4], data: new Uint8Array(8) });

  test('names and shapes: GQA, head_dim apart from hidden / heads, untied, biases', () => {
    const shapes = tensorShapes(parse({ head_dim: 12, num_key_value_heads: 2, attention_bias: true, mlp_bias: true }));
    expect(Object.fromEntries([...shapes].filter(([name]) => !name.includes('layers.1.')))).toEqual({
      'model.embed_tokens.weight': [100, 64],
      'model.layers.0.input_layernorm.weight': [64],
      'model.layers.0.self_attn.q_proj.weight': [48, 64],
      'model.layers.0.self_attn.q_proj.bias': [48],
      'model.layers.0.self_attn.k_proj.weight': [24, 64],
      'model.layers.0.self_attn.k_proj.bias': [24],
      'model.layers.0.self_attn.v_proj.weight': [24, 64],
      'model.layers.0.self_attn.v_proj.bias': [24],
      'model.layers.0.self_attn.o_proj.weight': [64, 48],
      'model.layers.0.self_attn.o_proj.bias': [64],
      'model.layers.0.post_attention_layernorm.weight': [64],
      'model.layers.0.mlp.gate_proj.weight': [172, 64],
      'model.layers.0.mlp.gate_proj.bias': [172],
      'model.layers.0.mlp.up_proj.weight': [172, 64],
      'model.layers.0.mlp.up_proj.bias': [172],
      'model.layers.0.mlp.down_proj.weight': [64, 172],
      'model.layers.0.mlp.down_proj.bias': [64],
      'model.norm.weight': [64],
      'lm_head.weight': [100, 64],
    });
    expect(tensorShapes(parse({ tie_word_embeddings: true })).has('lm_head.weight')).toBe(false);
  });

  test.each(['stories-3m', 'stories-650k'] as const)('%s has exactly the tensors of its config', (model) => {
    const files = readFolder(model);
    const config = parseConfig(jsonOf(files, 'config.json'), model);
    const tensors = parseSafetensors(files.get('model.safetensors')!, model);
    expect(new Map([...tensors].map(([name, { shape }]) => [name, shape]))).toEqual(tensorShapes(config));
    expect([...checkTensors(config, tensors, model).keys()]).toEqual([...tensorShapes(config).keys()]);
  });

  test('every single missing tensor is named', () => {
    const { config, tensors } = fill({ attention_bias: true });
    for (const name of tensors.keys()) {
      const rest = new Map(tensors);
      rest.delete(name);
      expect(() => checkTensors(config, rest, 'w')).toThrow(`w: tensor ${name} is missing`);
    }
  });

  test.each([
    ['F16', null],
    ['BF16', null],
    ['F32', null],
    ['F64', UnsupportedModelError],
    ['F8_E4M3', UnsupportedModelError],
    ['toString', UnsupportedModelError],
  ])('data type %s', (dtype, error) => {
    const { config, tensors } = fill();
    tensors.set('model.norm.weight', { ...tensors.get('model.norm.weight')!, dtype });
    const check = () => checkTensors(config, tensors, 'w');
    if (error) expect(check).toThrow(error);
    else expect(check().get('model.norm.weight')?.dtype).toBe(dtype);
  });

  test.each([
    'model.layers.0.self_attn.q_proj.bias',
    'model.layers.0.self_attn.q_norm.weight',
    'model.layers.0.mlp.down_proj.weight_scale',
    'model.layers.2.input_layernorm.weight',
    'model.embed_positions.weight',
    'lm_head.bias',
  ])('%s would change the result', (name) => {
    const { config, tensors } = fill();
    tensors.set(name, extra());
    expect(() => checkTensors(config, tensors, 'w')).toThrow(ModelFormatError);
    expect(() => checkTensors(config, tensors, 'w')).toThrow(`w: tensor "${name}" has no place`);
  });

  test.each([
    'model.layers.0.self_attn.rotary_emb.inv_freq',
    'model.rotary_emb.inv_freq',
    'lm_head.weight',
    '__proto__',
    'score.weight',
  ])('%s is ignored', (name) => {
    const { config, tensors } = fill({ tie_word_embeddings: true });
    tensors.set(name, extra('I64'));
    expect(checkTensors(config, tensors, 'w').has(name)).toBe(false);
  });
});
