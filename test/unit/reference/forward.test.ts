import { describe, expect, test } from 'vitest';
import { dequantize } from '../../reference/dequantize.ts';
import { createReferenceModel } from '../../reference/forward.ts';
import { createRandom } from '../../reference/random.ts';
import { type RandomModel, randomModel } from '../../reference/random_model.ts';

const tokensOf = (count: number, seed: number, vocabSize = 259): number[] => {
  const random = createRandom(seed);
  return Array.from({ length: count }, () => random.integer(vocabSize));
};

function largestDifference(a: readonly Float64Array[], b: readonly (readonly number[] | Float64Array)[]): number {
  expect(a.map((row) => row.length)).toEqual(b.map((row) => row.length));
  return Math.max(...a.map((row, t) => Math.max(...row.map((value, i) => Math.abs(value - b[t]![i]!)))));
}

/** The same decoder once more, straight from the paper's formulas: nested arrays, no cache, all rows at once. */
function naiveLogits({ config, tensors }: RandomModel, tokens: readonly number[]): number[][] {
  const matrix = (name: string): number[][] => {
    const tensor = tensors.get(name)!;
    const values = [...dequantize(tensor)];
    const columns = tensor.shape.at(-1)!;
    return Array.from({ length: values.length / columns }, (_, i) => values.slice(i * columns, (i + 1) * columns));
  };
  const vector = (name: string, size: number) => (tensors.has(name) ? matrix(name)[0]! : new Array(size).fill(0));
  const dot = (a: readonly number[], b: readonly number[]) => a.reduce((sum, value, i) => sum + value * b[i]!, 0);
  const add = (a: readonly number[], b: readonly number[]) => a.map((value, i) => value + b[i]!);
  const linear = (name: string, x: readonly number[]) => {
    const weight = matrix(`${name}.weight`);
    return add(
      weight.map((row) => dot(row, x)),
      vector(`${name}.bias`, weight.length),
    );
  };
  const norm = (name: string, x: readonly number[]) => {
    const root = Math.sqrt(dot(x, x) / x.length + config.rmsNormEps);
    return x.map((value, i) => (value / root) * matrix(`${name}.weight`)[0]![i]!);
  };
  const { headCount, kvHeadCount, headDim } = config;
  const splitHeads = (x: readonly number[]) =>
    Array.from({ length: x.length / headDim }, (_, head) => x.slice(head * headDim, (head + 1) * headDim));
  const turn = (head: readonly number[], position: number) =>
    head.map((value, i) => {
      const pair = i % (headDim / 2);
      const angle = position / config.ropes.full.theta ** ((2 * pair) / headDim);
      const partner = i < headDim / 2 ? -head[i + headDim / 2]! : head[pair]!;
      return value * Math.cos(angle) + partner * Math.sin(angle);
    });

  const embedding = matrix('model.embed_tokens.weight');
  let hidden = tokens.map((token) => embedding[token]!);
  for (let index = 0; index < config.layerCount; index++) {
    const prefix = `model.layers.${index}`;
    const inputs = hidden.map((x) => norm(`${prefix}.input_layernorm`, x));
    const project = (name: string) => inputs.map((x) => splitHeads(linear(`${prefix}.self_attn.${name}`, x)));
    const queries = project('q_proj').map((heads, position) => heads.map((head) => turn(head, position)));
    const keys = project('k_proj').map((heads, position) => heads.map((head) => turn(head, position)));
    const values = project('v_proj');
    hidden = hidden.map((x, position) => {
      const mixed = queries[position]!.flatMap((query, head) => {
        const kvHead = Math.floor((head * kvHeadCount) / headCount);
        const seen = keys.slice(0, position + 1);
        const weights = seen.map((key) => Math.exp(dot(query, key[kvHead]!) / Math.sqrt(headDim)));
        const total = weights.reduce((sum, weight) => sum + weight, 0);
        return query.map(
          (_, i) =>
            dot(
              weights,
              seen.map((_, j) => values[j]![kvHead]![i]!),
            ) / total,
        );
      });
      return add(x, linear(`${prefix}.self_attn.o_proj`, mixed));
    });
    hidden = hidden.map((x) => {
      const input = norm(`${prefix}.post_attention_layernorm`, x);
      const up = linear(`${prefix}.mlp.up_proj`, input);
      const gate = linear(`${prefix}.mlp.gate_proj`, input);
      const activated = gate.map((value, i) => (value * up[i]!) / (1 + Math.exp(-value)));
      return add(x, linear(`${prefix}.mlp.down_proj`, activated));
    });
  }
  const head = config.tiedEmbeddings ? 'model.embed_tokens' : 'lm_head';
  return hidden.map((x) => linear(head, norm('model.norm', x)));
}

describe('forward', () => {
  test.each([
    ['biases, untied head, odd sizes', {}],
    [
      'no biases, tied head, one layer',
      { attention_bias: false, mlp_bias: false, tie_word_embeddings: true, num_hidden_layers: 1 },
    ],
    [
      'one head each, another theta and eps',
      { num_attention_heads: 1, num_key_value_heads: 1, rope_theta: 500, rms_norm_eps: 0.1 },
    ],
    ['three layers, no grouping, BF16', { num_hidden_layers: 3, num_key_value_heads: 6, dtype: 'BF16' as const }],
  ])('against a naive decoder: %s', (_, options) => {
    const model = randomModel(options, 11);
    const tokens = tokensOf(9, 12);
    const logits = createReferenceModel(model.config, model.tensors).forward(tokens, 0);
    expect(largestDifference(logits, naiveLogits(model, tokens))).toBeLessThan(1e-11);
  });

  const { config, tensors } = randomModel({ num_hidden_layers: 3 }, 21);
  const tokens = tokensOf(24, 22);
  const whole = createReferenceModel(config, tensors).forward(tokens, 0);

  test.each([[[1]], [[24]], [[7, 1, 8, 3, 5]], [[2, 6]]])('in steps of %j, the logits of one whole pass', (steps) => {
    const model = createReferenceModel(config, tensors);
    const rows: Float64Array[] = [];
    for (let i = 0; rows.length < tokens.length; i++) {
      const step = steps[i % steps.length]!;
      rows.push(...model.forward(tokens.slice(rows.length, rows.length + step), rows.length));
    }
    expect(largestDifference(rows, whole)).toBeLessThan(1e-12);
  });

  test('rewinding forgets what came after, without a trace', () => {
    const model = createReferenceModel(config, tensors);
    model.forward([...tokens.slice(0, 10), 1, 2, 3, 4, 5, 6], 0);
    expect(model.tokens.length).toBe(16);
    const rows = model.forward(tokens.slice(10, 13), 10);
    expect(model.tokens).toEqual(tokens.slice(0, 13));
    expect(largestDifference(rows, whole.slice(10, 13))).toBeLessThan(1e-12);
    // Back at the prompt's beginning, with a token that was there before.
    expect(largestDifference(model.forward(tokens.slice(0, 2), 0), whole.slice(0, 2))).toBeLessThan(1e-12);
    expect(() => model.forward([1], 3)).toThrow('Expected a start position in 0..2, got 3.');
  });

  test('a row sees what is before it and nothing after it', () => {
    const changed = tokens.with(12, (tokens[12]! + 1) % 259);
    const rows = createReferenceModel(config, tensors).forward(changed, 0);
    expect(largestDifference(rows.slice(0, 12), whole.slice(0, 12))).toBe(0);
    for (let t = 12; t < 24; t++) expect(largestDifference([rows[t]!], [whole[t]!])).toBeGreaterThan(1e-3);
  });

  test('a call that throws leaves the cache usable', () => {
    const model = createReferenceModel(config, tensors);
    model.forward(tokens.slice(0, 5), 0);
    expect(() => model.forward([259], 5)).toThrow('0..258, got 259');
    expect(model.tokens).toEqual(tokens.slice(0, 5));
    expect(largestDifference(model.forward(tokens.slice(5, 8), 5), whole.slice(5, 8))).toBeLessThan(1e-12);
  });

  test('onTensor sees every step of a layer, in order', () => {
    const seen: [name: string, length: number][] = [];
    const onTensor = (name: string, values: Float64Array) => void seen.push([name, values.length]);
    createReferenceModel(config, tensors, { onTensor }).forward([1, 2], 0);
    expect(seen.slice(0, 12)).toEqual([
      ['embed', 2 * 44],
      ['layers.0.input_norm', 2 * 44],
      ['layers.0.qkv', 2 * 200],
      ['layers.0.q', 2 * 120],
      ['layers.0.k', 2 * 40],
      ['layers.0.v', 2 * 40],
      ['layers.0.attention', 2 * 120],
      ['layers.0.attention_residual', 2 * 44],
      ['layers.0.mlp_norm', 2 * 44],
      ['layers.0.gate_up', 2 * 72],
      ['layers.0.silu_mul', 2 * 36],
      ['layers.0.mlp_residual', 2 * 44],
    ]);
    expect(seen.slice(-2)).toEqual([
      ['final_norm', 2 * 44],
      ['logits', 2 * 259],
    ]);
  });

  test('matricesAsFloat16 changes an F32 checkpoint a little, an F16 one not at all', () => {
    const difference = (dtype: 'F16' | 'F32') => {
      const model = randomModel({ dtype }, 31);
      const run = (matricesAsFloat16: boolean) =>
        createReferenceModel(model.config, model.tensors, { matricesAsFloat16 }).forward([1, 2, 3], 0);
      return largestDifference(run(true), run(false));
    };
    expect(difference('F16')).toBe(0);
    expect(difference('F32')).toBeGreaterThan(1e-6);
    expect(difference('F32')).toBeLessThan(0.1);
  });

  test('names the tensor that is missing or of another shape', () => {
    const without = new Map(tensors);
    without.delete('model.layers.1.mlp.up_proj.bias');
    expect(() => createReferenceModel(config, without)).toThrow('model.layers.1.mlp.up_proj.bias [36], got none');
    const wrong = { ...config, ffnSize: 40 };
    expect(() => createReferenceModel(wrong, tensors)).toThrow('mlp.gate_proj.weight [40,44], got [36,44]');
  });
});
