/** What argmax gives where no logit is finite. */
export const noToken = 0xffffffff;

/**
 * Float64 twin of shaders/argmax.wgsl and shaders/argmax_fold.wgsl: the id of the largest finite logit of one row.
 * Ties take the lowest id; NaN and infinities are never chosen.
 */
export function argmax(logits: Float64Array /* (V,) */): number {
  let best = noToken;
  let bestLogit = -Infinity;
  for (let id = 0; id < logits.length; id++) {
    if (Number.isFinite(logits[id]) && logits[id]! > bestLogit) {
      best = id;
      bestLogit = logits[id]!;
    }
  }
  return best;
}

/** Largest logit − second largest: how much a row may be disturbed before its token can change. */
export function margin(logits: Float64Array /* (V,) */): number {
  const best = argmax(logits);
  let second = -Infinity;
  for (let id = 0; id < logits.length; id++) {
    if (id !== best && logits[id]! > second) second = logits[id]!;
  }
  return logits[best]! - second;
}
