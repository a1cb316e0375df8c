/** Float64 twin of shaders/threshold.wgsl (and of lib/probability.wgsl): what top-k, top-p and min-p keep. */
import { lowest, type SamplingOptions } from './warp.ts';

/** A token is kept where its warped logit is finite and ≥ threshold; its probability is exp(logit − max) / sum. */
export type Distribution = { max: number; threshold: number; sum: number };

export type Threshold = Distribution & {
  /**
   * How far the choice of what is kept is from another one: the smallest of the gap in logits below the k-th, of the
   * mass by which top-p is met or would not be, and of the distance of any logit from the min-p line.
   */
  margin: number;
};

export function threshold(
  warped: Float64Array, // (V,)
  { topK, topP, minP }: Pick<SamplingOptions, 'topK' | 'topP' | 'minP'>,
): Threshold {
  const sorted = warped.filter(Number.isFinite).sort().reverse();
  const max = sorted[0];
  if (max === undefined) return { max: lowest, threshold: lowest, sum: 0, margin: Infinity };
  let margin = Infinity;
  let kept = sorted;
  if (topK > 0 && topK < sorted.length) {
    const least = sorted[topK - 1]!;
    kept = sorted.filter((logit) => logit >= least);
    const next = sorted[kept.length];
    if (next !== undefined) margin = least - next;
  }
  const massOf = (logits: Float64Array) => logits.reduce((sum, logit) => sum + Math.exp(logit - max), 0);
  if (topP < 1) {
    const wanted = topP * massOf(kept);
    let mass = 0;
    let count = 0;
    // Ties come and go together.
    while (mass < wanted && count < kept.length) {
      const logit = kept[count]!;
      const before = mass;
      for (; kept[count] === logit; count++) mass += Math.exp(logit - max);
      if (mass >= wanted) margin = Math.min(margin, (mass - wanted) / massOf(kept), (wanted - before) / massOf(kept));
    }
    kept = kept.slice(0, count);
  }
  let least = kept.length < sorted.length ? kept.at(-1)! : lowest;
  if (minP > 0) {
    const line = max + Math.log(minP);
    for (const logit of kept) if (logit < max) margin = Math.min(margin, Math.abs(logit - line));
    least = Math.max(least, line);
    kept = kept.filter((logit) => logit >= least);
  }
  return { max, threshold: least, sum: massOf(kept), margin };
}

/** 0 where a token is not kept, or is beyond the vocabulary. */
export function probability(warped: Float64Array, { max, threshold, sum }: Distribution, token: number): number {
  const logit = warped[token] ?? -Infinity;
  return Number.isFinite(logit) && logit >= threshold && sum > 0 ? Math.exp(logit - max) / sum : 0;
}

export function probabilities(warped: Float64Array, distribution: Distribution): Float64Array {
  return warped.map((_, token) => probability(warped, distribution, token));
}
