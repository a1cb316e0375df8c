/** Float64 twin of shaders/logprobs.wgsl: log-softmax of the model's own logits, before penalties and temperature. */

export type TokenLogprob = { id: number; logprob: number };

/** Of one emitted token, and of the `topCount` most likely ones: descending, ties by lowest id, finite logits only. */
export function logprobs(
  logits: Float64Array, // (V,)
  token: number,
  topCount: number,
): { logprob: number; top: TokenLogprob[] } {
  const finite = Array.from(logits, (logit, id) => ({ id, logit })).filter(({ logit }) => Number.isFinite(logit));
  const max = finite.reduce((largest, { logit }) => Math.max(largest, logit), -Infinity);
  const normaliser = max + Math.log(finite.reduce((sum, { logit }) => sum + Math.exp(logit - max), 0));
  finite.sort((a, b) => b.logit - a.logit || a.id - b.id);
  return {
    logprob: logits[token]! - normaliser,
    top: finite.slice(0, topCount).map(({ id, logit }) => ({ id, logprob: logit - normaliser })),
  };
}
