/** Do samples follow a distribution? The G-test (log-likelihood ratio; Sokal and Rohlf, "Biometry"). */

/** Below it a test fails: with fixed seeds a test that passes once passes for ever, so chance is paid for once. */
export const significance = 1e-6;

export type GTest = {
  /** Williams' correction applied. */
  statistic: number;
  degreesOfFreedom: number;
  /** The chance of a statistic as large, if the samples follow the distribution. */
  pValue: number;
};

/** Fewest samples to be expected in a cell; rarer outcomes are pooled. */
const fewestExpected = 5;

/** Counts of outcomes against their exact probabilities. An outcome of probability 0 that came gives p = 0. */
export function gTest(
  counts: ArrayLike<number>, // (outcomes,)
  probabilities: ArrayLike<number>, // (outcomes,)
): GTest {
  const sampleCount = Array.from(counts).reduce((sum, count) => sum + count, 0);
  const total = Array.from(probabilities).reduce((sum, probability) => sum + probability, 0);
  if (counts.length !== probabilities.length || Math.abs(total - 1) > 1e-9 || sampleCount < fewestExpected) {
    throw new RangeError(
      `Expected counts and probabilities of the same outcomes that sum to 1, and ${fewestExpected} samples or more; got ` +
        `${counts.length} counts of ${sampleCount} samples, and ${probabilities.length} probabilities of sum ${total}.`,
    );
  }
  const outcomes = Array.from(probabilities, (probability, i) => ({
    expected: probability * sampleCount,
    count: counts[i]!,
  })).sort((a, b) => a.expected - b.expected);
  if (outcomes.some(({ expected, count }) => expected === 0 && count > 0)) {
    return { statistic: Infinity, degreesOfFreedom: 0, pValue: 0 };
  }
  const cells: { expected: number; count: number }[] = [];
  let pool = { expected: 0, count: 0 };
  for (const { expected, count } of outcomes) {
    pool = { expected: pool.expected + expected, count: pool.count + count };
    if (pool.expected < fewestExpected) continue;
    cells.push(pool);
    pool = { expected: 0, count: 0 };
  }
  // What is left joins the last cell, the most likely outcome.
  const last = cells.at(-1);
  if (last === undefined)
    throw new RangeError(`Expected ${fewestExpected} samples in a cell, got ${sampleCount} in all.`);
  last.expected += pool.expected;
  last.count += pool.count;

  const degreesOfFreedom = cells.length - 1;
  if (degreesOfFreedom === 0) return { statistic: 0, degreesOfFreedom, pValue: 1 };
  const logRatio = cells.reduce(
    (sum, { expected, count }) => sum + (count > 0 ? count * Math.log(count / expected) : 0),
    0,
  );
  const inverses = cells.reduce((sum, { expected }) => sum + 1 / expected, 0);
  const correction = 1 + (inverses - 1 / sampleCount) / (6 * degreesOfFreedom);
  const statistic = Math.max(0, (2 * logRatio) / correction);
  return { statistic, degreesOfFreedom, pValue: chiSquareSurvival(statistic, degreesOfFreedom) };
}

/** The chance that a chi-square deviate exceeds `statistic`. */
export function chiSquareSurvival(statistic: number, degreesOfFreedom: number): number {
  return upperGamma(degreesOfFreedom / 2, statistic / 2);
}

/** Regularised upper incomplete gamma function Q(a, x), a > 0, x ≥ 0 (Press et al., "Numerical Recipes", 6.2). */
export function upperGamma(a: number, x: number): number {
  if (!(a > 0) || !(x >= 0)) throw new RangeError(`Expected a > 0 and x ≥ 0, got ${a} and ${x}.`);
  if (x === 0) return 1;
  const scale = Math.exp(a * Math.log(x) - x - logGamma(a));
  if (x < a + 1) {
    // Series of the lower function.
    let term = 1 / a;
    let sum = term;
    for (let n = 1; term > sum * 1e-16; n++) {
      term *= x / (a + n);
      sum += term;
    }
    return 1 - sum * scale;
  }
  // Continued fraction of the upper one, by Lentz's method.
  const tiny = 1e-300;
  let b = x + 1 - a;
  let c = 1 / tiny;
  let d = 1 / b;
  let fraction = d;
  for (let i = 1; i < 100_000; i++) {
    const numerator = -i * (i - a);
    b += 2;
    d = numerator * d + b;
    d = 1 / (Math.abs(d) < tiny ? tiny : d);
    c = b + numerator / c;
    if (Math.abs(c) < tiny) c = tiny;
    fraction *= d * c;
    if (Math.abs(d * c - 1) < 1e-15) break;
  }
  return scale * fraction;
}

/** log Γ(x), x > 0: Stirling's series, after lifting x to where it converges. */
export function logGamma(x: number): number {
  let shift = 0;
  let z = x;
  for (; z < 15; z++) shift += Math.log(z);
  const square = 1 / (z * z);
  const series = (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square * (1 / 1680 - square / 1188)))) / z;
  return (z - 0.5) * Math.log(z) - z + 0.5 * Math.log(2 * Math.PI) + series - shift;
}
