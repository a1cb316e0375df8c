import { describe, expect, test } from 'vitest';
import { argmax, margin, noToken } from '../../reference/argmax.ts';
import { attention } from '../../reference/attention.ts';
import { embed } from '../../reference/embed.ts';
import { glu } from '../../reference/glu.ts';
import { matmul } from '../../reference/matmul.ts';
import { createRandom } from '../../reference/random.ts';
import { rmsNorm } from '../../reference/rms_norm.ts';
import { plainRope, ropeKv } from '../../reference/rope_kv.ts';

const random = createRandom(1);

/** Largest absolute difference; NaN or a length mismatch is infinite. */
function distance(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  if (actual.length !== expected.length) return Infinity;
  let largest = 0;
  for (let i = 0; i < actual.length; i++) {
    const difference = Math.abs(actual[i]! - expected[i]!);
    largest = Number.isNaN(difference) ? Infinity : Math.max(largest, difference);
  }
  return largest;
}

function nest(values: Float64Array, size: number): number[][] {
  return Array.from({ length: values.length / size }, (_, i) => [...values.subarray(i * size, (i + 1) * size)]);
}

describe('embed', () => {
  test('gathers rows, repeated and in order', () => {
    const embedding = Float64Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9); // (3, 3)
    expect([...embed([2, 0, 2], embedding, 3)]).toEqual([7, 8, 9, 1, 2, 3, 7, 8, 9]);
  });
  test('refuses an id outside the vocabulary', () => {
    expect(() => embed([3], new Float64Array(9), 3)).toThrow(/0\.\.2, got 3/);
    expect(() => embed([-1], new Float64Array(9), 3)).toThrow(RangeError);
  });
});

describe('rmsNorm', () => {
  test('hand-computed: mean square of (3, 4) is 12.5', () => {
    const output = rmsNorm(Float64Array.of(3, 4), Float64Array.of(1, 10), 0);
    expect(distance(output, [3 / Math.sqrt(12.5), 40 / Math.sqrt(12.5)])).toBeLessThan(1e-15);
  });
  test('eps is added to the mean square, under the root', () => {
    const output = rmsNorm(Float64Array.of(3, 4), Float64Array.of(1, 1), 12.5);
    expect(distance(output, [0.6, 0.8])).toBeLessThan(1e-15);
    expect([...rmsNorm(new Float64Array(2), Float64Array.of(1, 1), 1e-5)]).toEqual([0, 0]);
  });
  test('rows are independent', () => {
    const input = random.normals(3 * 20);
    const weight = random.normals(20);
    const whole = rmsNorm(input, weight, 1e-5);
    nest(input, 20).forEach((row, t) => {
      expect([...whole.subarray(t * 20, t * 20 + 20)]).toEqual([...rmsNorm(Float64Array.from(row), weight, 1e-5)]);
    });
  });
});

describe('matmul', () => {
  test.each([
    [1, 4, 3],
    [3, 7, 5], // not a multiple of the unrolling
    [8, 36, 20],
  ])('%i rows, %i → %i, against nested sums', (rows, inputSize, outputSize) => {
    const input = random.normals(rows * inputSize);
    const weight = random.normals(outputSize * inputSize);
    const bias = random.normals(outputSize);
    const residual = random.normals(rows * outputSize);
    const product = nest(input, inputSize).flatMap((x) =>
      nest(weight, inputSize).map((w) => x.map((value, i) => value * w[i]!).reduce((sum, term) => sum + term, 0)),
    );
    const shape = { rows, inputSize, outputSize };
    expect(distance(matmul(input, weight, shape), product)).toBeLessThan(1e-13);
    const withAll = product.map((value, i) => value + bias[i % outputSize]! + residual[i]!);
    expect(distance(matmul(input, weight, shape, bias, residual), withAll)).toBeLessThan(1e-13);
    const withResidual = product.map((value, i) => value + residual[i]!);
    expect(distance(matmul(input, weight, shape, null, residual), withResidual)).toBeLessThan(1e-13);
  });
  test('a row has the same bits in any company', () => {
    const input = random.normals(8 * 36);
    const weight = random.normals(10 * 36);
    const whole = matmul(input, weight, { rows: 8, inputSize: 36, outputSize: 10 });
    const alone = matmul(input.slice(5 * 36, 6 * 36), weight, { rows: 1, inputSize: 36, outputSize: 10 });
    expect([...whole.subarray(50, 60)]).toEqual([...alone]);
  });
  test('refuses sizes that do not fit', () => {
    const shape = { rows: 1, inputSize: 4, outputSize: 2 };
    expect(() => matmul(new Float64Array(5), new Float64Array(8), shape)).toThrow('input of 4 values, got 5');
    expect(() => matmul(new Float64Array(4), new Float64Array(8), shape, new Float64Array(3))).toThrow('bias of 2');
  });
});

describe('ropeKv', () => {
  const shape = { headCount: 1, kvHeadCount: 1, headDim: 4 };
  test('hand-computed: pairs (0, 2) and (1, 3), angles 1 and 0.01 at position 1', () => {
    // q = (1, 0, 0, 0), k = (0, 1, 0, 0), v = (5, 6, 7, 8)
    const { q, k, v } = ropeKv(Float64Array.of(1, 0, 0, 0, 0, 1, 0, 0, 5, 6, 7, 8), [1], shape, {
      rope: plainRope(4, 10000),
    });
    expect(distance(q, [Math.cos(1), 0, Math.sin(1), 0])).toBeLessThan(1e-15);
    expect(distance(k, [0, Math.cos(0.01), 0, Math.sin(0.01)])).toBeLessThan(1e-15);
    expect([...v]).toEqual([5, 6, 7, 8]);
  });
  test('position 0 turns nothing', () => {
    const qkv = random.normals(12);
    const { q, k, v } = ropeKv(qkv, [0], shape, { rope: plainRope(4, 10000) });
    expect([...q, ...k, ...v]).toEqual([...qkv]);
  });
  test('many heads and positions, against powers of complex numbers', () => {
    const many = { headCount: 6, kvHeadCount: 2, headDim: 20 };
    const positions = [0, 1, 7, 200];
    const qkv = random.normals(positions.length * 10 * 20);
    const theta = 5000;
    const { q, k, v } = ropeKv(qkv, positions, many, { rope: plainRope(many.headDim, theta) });
    // e^(i·angle) by repeated multiplication with the unit step of each frequency.
    const turn = (head: readonly number[], position: number): number[] => {
      const result = new Array<number>(20).fill(0);
      for (let i = 0; i < 10; i++) {
        const frequency = 1 / theta ** (i / 10);
        let [real, imaginary] = [head[i]!, head[i + 10]!];
        for (let step = 0; step < position; step++) {
          const [c, s] = [Math.cos(frequency), Math.sin(frequency)];
          [real, imaginary] = [real * c - imaginary * s, real * s + imaginary * c];
        }
        result[i] = real;
        result[i + 10] = imaginary;
      }
      return result;
    };
    const heads = nest(qkv, 20); // (T · (H + 2K), headDim)
    const pick = (from: number, to: number) =>
      positions.flatMap((position, t) => heads.slice(t * 10 + from, t * 10 + to).map((head) => ({ head, position })));
    const rotated = (from: number, to: number) => pick(from, to).flatMap(({ head, position }) => turn(head, position));
    expect(distance(q, rotated(0, 6))).toBeLessThan(1e-12);
    expect(distance(k, rotated(6, 8))).toBeLessThan(1e-12);
    expect([...v]).toEqual(pick(8, 10).flatMap(({ head }) => head));
  });
  test('refuses rows of another size', () => {
    expect(() => ropeKv(new Float64Array(13), [0], shape, { rope: plainRope(4, 10000) })).toThrow(
      '1 × 12 values, got 13',
    );
  });
});

describe('attention', () => {
  test('hand-computed: scores 0 and ln 3 mix the values 1 : 3', () => {
    const shape = { headCount: 1, kvHeadCount: 1, headDim: 4 };
    // The scale is 1/2, so a dot product of 2 ln 3 makes a score of ln 3.
    const q = Float64Array.of(2 * Math.log(3), 0, 0, 0);
    const keys = Float64Array.of(0, 9, 9, 9, 1, 9, 9, 9);
    const values = Float64Array.of(4, 0, 0, 1, 8, 4, 0, 1);
    expect(distance(attention(q, keys, values, [1], shape), [7, 3, 0, 1])).toBeLessThan(1e-14);
    // At position 0 there is one key only.
    expect([...attention(q, keys, values, [0], shape)]).toEqual([4, 0, 0, 1]);
  });
  test('grouped heads, any positions, against explicit matrices', () => {
    const shape = { headCount: 6, kvHeadCount: 2, headDim: 5 };
    const positions = [3, 0, 12, 3];
    const q = random.normals(positions.length * 6 * 5);
    const keys = random.normals(13 * 2 * 5);
    const values = random.normals(13 * 2 * 5);
    const [queryHeads, keyHeads, valueHeads] = [nest(q, 5), nest(keys, 5), nest(values, 5)];
    const expected = queryHeads.flatMap((query, index) => {
      const position = positions[Math.floor(index / 6)]!;
      const kvHead = index % 6 < 3 ? 0 : 1;
      const cached = (rows: number[][]) => rows.filter((_, i) => i % 2 === kvHead && i < 2 * (position + 1));
      const weights = cached(keyHeads).map((key) => Math.exp(key.reduce((s, x, i) => s + x * query[i]!, 0) / 5 ** 0.5));
      const total = weights.reduce((sum, weight) => sum + weight, 0);
      return [0, 1, 2, 3, 4].map((i) =>
        cached(valueHeads).reduce((sum, value, j) => sum + (weights[j]! / total) * value[i]!, 0),
      );
    });
    expect(distance(attention(q, keys, values, positions, shape), expected)).toBeLessThan(1e-13);
  });
  test('scores of any size do not overflow', () => {
    const shape = { headCount: 1, kvHeadCount: 1, headDim: 1 };
    const output = attention(Float64Array.of(1e6), Float64Array.of(1, 2), Float64Array.of(10, 20), [1], shape);
    expect([...output]).toEqual([20]);
  });
  test('refuses a position beyond the cache', () => {
    const shape = { headCount: 1, kvHeadCount: 1, headDim: 1 };
    const cache = new Float64Array(2);
    expect(() => attention(Float64Array.of(1), cache, cache, [2], shape)).toThrow('needs 3 cached positions, got 2');
  });
});

describe('glu', () => {
  test('hand-computed, gate before up in each row', () => {
    const gateUp = Float64Array.of(0, 1, 7, 10, Math.log(3), -1, 4, 1); // (2, 2 · 2)
    const silu1 = 1 / (1 + 1 / Math.E);
    const expected = [0, 10 * silu1, 3 * Math.log(3), -1 / (1 + Math.E)];
    expect(distance(glu(gateUp, 2), expected)).toBeLessThan(1e-14);
  });
  test('far from zero it is x or 0, never NaN', () => {
    expect([...glu(Float64Array.of(1000, -1000, 1, 1), 2)].map((value) => value + 0)).toEqual([1000, 0]);
  });
});

describe('argmax', () => {
  test('the largest; ties take the lowest id', () => {
    expect(argmax(Float64Array.of(1, 3, 2))).toBe(1);
    expect(argmax(Float64Array.of(-5, -1, -1, -7, -1))).toBe(1);
    expect(argmax(Float64Array.of(2, 2))).toBe(0);
  });
  test('only finite logits are chosen', () => {
    expect(argmax(Float64Array.of(Number.NaN, -3, Infinity, -2, -Infinity))).toBe(3);
    expect(argmax(Float64Array.of(Number.NaN, Infinity, -Infinity))).toBe(noToken);
  });
  test('margin is the distance to the second, 0 at a tie', () => {
    expect(margin(Float64Array.of(1, 4, 2.5))).toBe(1.5);
    expect(margin(Float64Array.of(4, 1, 4))).toBe(0);
  });
});

describe('createRandom', () => {
  test('the same seed gives the same numbers, another seed others', () => {
    const draw = (seed: number) => [...createRandom(seed).normals(5)];
    expect(draw(7)).toEqual(draw(7));
    expect(draw(7)).not.toEqual(draw(8));
  });
  test('moments of 100,000 deviates', () => {
    const values = createRandom(3).normals(100_000, 2);
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length;
    expect(Math.abs(mean)).toBeLessThan(0.03);
    expect(Math.abs(variance - 4)).toBeLessThan(0.1);
  });
  test('integers reach every value of the range and no other', () => {
    const { integer } = createRandom(4);
    expect(new Set(Array.from({ length: 200 }, () => integer(5)))).toEqual(new Set([0, 1, 2, 3, 4]));
  });
});
