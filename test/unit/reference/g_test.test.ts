import { describe, expect, test } from 'vitest';
import { chiSquareSurvival, gTest, logGamma, significance, upperGamma } from '../../reference/g_test.ts';
import { createRandom } from '../../reference/random.ts';

// From a library of arbitrary precision, 30 digits.
test.each([
  [0.5, 0.5723649429247001],
  [1, 0],
  [1.5, -0.12078223763524522],
  [7, 6.579251212010101],
  [14.9, 24.92413200221728],
  [15, 25.19122118273868],
  [100.25, 360.2845596377642],
  [5000, 37582.62631568535],
])('log Γ(%f)', (x, expected) => {
  expect(Math.abs(logGamma(x) - expected)).toBeLessThan(1e-14 * Math.max(100, Math.abs(expected)));
});

test.each([
  [0.5, 1e-8, 0.9998871620836666],
  [0.5, 0.5, 0.3173105078629141],
  [0.5, 12, 9.63357008643e-7],
  [1, 1, 0.3678794411714423],
  [3, 0.1, 0.9998453469297354],
  [5, 5, 0.4404932850652124],
  [5, 20, 1.694474393007e-5],
  [31.5, 31.5, 0.4763023833381301],
  [31.5, 80, 2.170304318877358e-10],
  [500, 450, 0.98928276190871],
  [500, 700, 7.03214564182859e-16],
  [2000, 2250, 3.71890581677084e-8],
  [4000.5, 4100, 0.05872842151310507],
])('upper gamma function, a = %f, x = %f', (a, x, expected) => {
  expect(Math.abs(upperGamma(a, x) / expected - 1)).toBeLessThan(1e-10);
});

test('the chi-square quantiles of printed tables', () => {
  expect(chiSquareSurvival(3.841458820694124, 1)).toBeCloseTo(0.05, 12);
  expect(chiSquareSurvival(18.307038053275146, 10)).toBeCloseTo(0.05, 12);
  expect(chiSquareSurvival(29.58829844507442, 10)).toBeCloseTo(0.001, 12);
  expect(chiSquareSurvival(0, 4)).toBe(1);
});

describe('gTest', () => {
  test('by hand: 15 heads of 20 tosses of a fair coin', () => {
    const { statistic, degreesOfFreedom, pValue } = gTest([15, 5], [0.5, 0.5]);
    const correction = 1 + (0.1 + 0.1 - 0.05) / 6;
    expect(statistic).toBeCloseTo((2 * (15 * Math.log(1.5) + 5 * Math.log(0.5))) / correction, 12);
    expect(degreesOfFreedom).toBe(1);
    expect(pValue).toBeCloseTo(chiSquareSurvival(statistic, 1), 12);
  });
  test('pools rare outcomes until 5 are expected', () => {
    // Expected 2, 2, 2, 4, 90 of 100: the first three make a cell of 6, the fourth joins the last.
    expect(gTest([2, 1, 3, 4, 90], [0.02, 0.02, 0.02, 0.04, 0.9])).toMatchObject({ statistic: 0, degreesOfFreedom: 1 });
    expect(gTest([0, 0, 0, 10, 90], [0.02, 0.02, 0.02, 0.04, 0.9]).statistic).toBeGreaterThan(6);
    expect(gTest([6, 0, 0, 4, 90], [0.02, 0.02, 0.02, 0.04, 0.9]).statistic).toBe(0);
  });
  test('one possible outcome is no test, an impossible one is certainty', () => {
    expect(gTest([20, 0], [1, 0]).pValue).toBe(1);
    expect(gTest([19, 1], [1, 0]).pValue).toBe(0);
  });
  test('refuses what is no distribution, or too few samples', () => {
    expect(() => gTest([5, 5], [0.5, 0.4])).toThrow('sum to 1');
    expect(() => gTest([5, 5], [1])).toThrow('2 counts');
    expect(() => gTest([1, 3], [0.5, 0.5])).toThrow('of 4 samples');
  });

  /** Counts of 20,000 draws by inversion. */
  function draw(probabilities: readonly number[], seed: number): number[] {
    const random = createRandom(seed);
    const counts = probabilities.map(() => 0);
    for (let i = 0; i < 20_000; i++) {
      let rest = random.uniform();
      const outcome = probabilities.findIndex((probability) => {
        rest -= probability;
        return rest < 0;
      });
      counts[outcome < 0 ? counts.length - 1 : outcome]!++;
    }
    return counts;
  }
  const weights = Array.from({ length: 200 }, (_, i) => Math.exp(-i / 15));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const skewed = weights.map((weight) => weight / total);

  test('p-values of honest samples are spread evenly', () => {
    const pValues = Array.from({ length: 60 }, (_, seed) => gTest(draw(skewed, seed), skewed).pValue);
    const below = (limit: number) => pValues.filter((pValue) => pValue < limit).length;
    expect(below(0.5)).toBeGreaterThan(20);
    expect(below(0.5)).toBeLessThan(40);
    expect(below(0.1)).toBeLessThan(14);
    expect(Math.min(...pValues)).toBeGreaterThan(significance);
  });
  test('finds a shift of two percent from one outcome to its neighbour', () => {
    const shifted = skewed.map((probability, i) =>
      i === 0 ? probability - 0.02 : i === 1 ? probability + 0.02 : probability,
    );
    expect(gTest(draw(shifted, 1), skewed).pValue).toBeLessThan(significance);
  });
});
