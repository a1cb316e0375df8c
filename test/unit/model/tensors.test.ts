import { describe, expect, test } from 'vitest';
import { ModelFormatError, UnsupportedModelError } from '../../../src/errors.ts';
import { type ModelConfig, parseConfig } from '../../../src/model/config.ts';
import type { StoredTensor } from '../../../src/model/safetensors.ts';
import { checkTensors, tensorShapes } from '../../../src/model/tensors.ts';
import { familyNames, loadFamily } from '../../reference/families.ts';
import { jsonOf, readFolder } from './folders.ts';
import { parseSafetensors } from './loaded.ts';

const parse = (entries: Record<string, unknown> = {}): ModelConfig =>
  parseConfig(
    {
      architectures: ['LlamaForCausalLM'],
      hidden_size: 64,
      intermediate_size: 172,
      num_hidden_layers: 2,
      num_attention_heads: 4,
      vocab_size: 100,
      max_position_embeddings: 128,
      ...entries,
    },
    'x/config.json',
  );

describe('a Llama folder', () => {
  const fill = (entries: Record<string, unknown> = {}) => {
    const config = parse(entries);
    const tensors = new Map<string, StoredTensor>();
    for (const [name, shape] of tensorShapes(config)) tensors.set(name, { dtype: 'F16', shape, begin: 0, end: 0 });
    return { config, tensors };
  };
  const extra = (dtype = 'F16') => ({ dtype, shape: [4], begin: 0, end: 8 });

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

// What Hugging Face calls the tensors of published models is in published.test.ts.
describe.each(familyNames)('the checkpoint of %s that Hugging Face wrote', (name) => {
  test('has exactly the tensors of its config', async () => {
    const { config, tensors } = await loadFamily(name);
    const shapes = Object.fromEntries([...tensors].map(([tensor, { shape }]) => [tensor, shape]));
    expect(shapes).toEqual(Object.fromEntries(tensorShapes(config)));
    expect(checkTensors(config, tensors, 'w').size).toBe(tensors.size);
  });

  test('is refused without any one of them, by its name', async () => {
    const { config, tensors } = await loadFamily(name);
    for (const tensor of tensors.keys()) {
      const rest = new Map(tensors);
      rest.delete(tensor);
      expect(() => checkTensors(config, rest, 'w')).toThrow(`w: tensor ${tensor} is missing`);
    }
  });

  test('is refused under the config of every other family', async () => {
    const { tensors } = await loadFamily(name);
    for (const other of familyNames.filter((family) => family !== name)) {
      const { config } = await loadFamily(other);
      expect(() => checkTensors(config, tensors, 'w')).toThrow(ModelFormatError);
    }
  });
});
