import { describe, expect, test } from 'vitest';
import { parseConfig } from '../../../src/model/config.ts';
import { checkTensors } from '../../../src/model/tensors.ts';
import { readSafetensors, writeSafetensors } from '../../reference/checkpoint.ts';
import { dequantize } from '../../reference/dequantize.ts';
import { randomModel } from '../../reference/random_model.ts';
import { parseSafetensors } from '../model/loaded.ts';

describe('randomModel', () => {
  test.each([
    ['defaults', {}],
    ['BF16, one layer', { dtype: 'BF16' as const, num_hidden_layers: 1 }],
    [
      'F32, tied, no biases',
      { dtype: 'F32' as const, tie_word_embeddings: true, attention_bias: false, mlp_bias: false },
    ],
  ])('loads with the library’s own reader: %s', (_, options) => {
    const model = randomModel(options, 1);
    const json: unknown = JSON.parse(JSON.stringify(model.configJson));
    const config = parseConfig(json, 'config.json');
    expect(config).toMatchObject(model.config);
    const tensors = checkTensors(config, parseSafetensors(model.safetensors, 'model.safetensors'), 'model.safetensors');
    expect([...tensors.keys()].sort()).toEqual([...model.tensors.keys()].sort());
    for (const [name, tensor] of tensors) {
      expect([...dequantize(tensor)], name).toEqual([...dequantize(model.tensors.get(name)!)]);
    }
  });

  test('the same seed gives the same bytes, another seed others', () => {
    expect(randomModel({}, 5).safetensors).toEqual(randomModel({}, 5).safetensors);
    expect(randomModel({}, 5).safetensors).not.toEqual(randomModel({}, 6).safetensors);
  });

  test('the three formats hold the same weights, as near as they can', () => {
    const values = (dtype: 'F16' | 'BF16' | 'F32') =>
      dequantize(randomModel({ dtype }, 7).tensors.get('model.layers.0.mlp.down_proj.weight')!);
    const exact = values('F32');
    const worst = (dtype: 'F16' | 'BF16') =>
      Math.max(...values(dtype).map((value, i) => Math.abs(value - exact[i]!) / (Math.abs(exact[i]!) + 1e-4)));
    expect(worst('F16')).toBeLessThan(2 ** -11);
    expect(worst('BF16')).toBeLessThan(2 ** -8 * 1.01);
    expect(worst('BF16')).toBeGreaterThan(2 ** -10);
  });
});

test('writeSafetensors: header padded to 8 bytes, readSafetensors reads it back', () => {
  const data = Uint8Array.of(0, 0x3c, 0, 0xc0);
  const file = writeSafetensors(new Map([['a', { dtype: 'F16' as const, shape: [1, 2], data }]]));
  const headerSize = Number(new DataView(file.buffer).getBigUint64(0, true));
  expect(headerSize % 8).toBe(0);
  expect(file.byteLength).toBe(8 + headerSize + 4);
  const read = readSafetensors(file);
  expect([...read.keys()]).toEqual(['a']);
  expect([...dequantize(read.get('a')!)]).toEqual([1, -2]);
});
