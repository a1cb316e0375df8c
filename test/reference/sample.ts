/** Float64 twin of shaders/sample.wgsl (folded): the Gumbel-max trick. */
import { noToken } from './argmax.ts';
import { gumbel, type Purpose, randomBits, type Seed } from './threefry.ts';
import { type Distribution, probabilities, threshold } from './threshold.ts';
import { type SamplingOptions, warp } from './warp.ts';

/** A token, and by how much its score beat the next one: rounding decides where it is tiny. */
export type Draw = { token: number; margin: number };

export function sample(
  warped: Float64Array, // (V,)
  distribution: Distribution,
  seed: Seed,
  /** Of the token to be sampled. */
  position: number,
  purpose: Purpose,
): Draw {
  return drawBest(warped.length, (id) => {
    const logit = warped[id]!;
    if (!Number.isFinite(logit) || logit < distribution.threshold) return null;
    return logit + gumbel(randomBits(seed, position, purpose, id));
  });
}

/** The token of the highest score; ties take the lowest id, and null is never chosen. */
export function drawBest(vocabSize: number, scoreOf: (id: number) => number | null): Draw {
  let token = noToken;
  let best = -Infinity;
  let second = -Infinity;
  for (let id = 0; id < vocabSize; id++) {
    const score = scoreOf(id);
    if (score === null) continue;
    if (token === noToken || score > best) {
      second = best;
      best = score;
      token = id;
    } else if (score > second) second = score;
  }
  return { token, margin: token === noToken ? Infinity : best - second };
}

/** The exact probabilities of the next token, (V,). */
export function referenceDistribution(
  logits: Float64Array, // (V,)
  options: SamplingOptions,
  promptTokens: readonly number[] = [],
  outputTokens: readonly number[] = [],
): Float64Array {
  const warped = warp(logits, promptTokens, outputTokens, options);
  return probabilities(warped, threshold(warped, options));
}
