/** Float64 twin of shaders/residual.wgsl (folded): the token after the accepted drafts (Leviathan et al. 2023, Alg. 1). */
import { noToken } from './argmax.ts';
import type { WarpedRow } from './reject.ts';
import { type Draw, drawBest } from './sample.ts';
import { gumbel, purposes, randomBits, type Seed } from './threefry.ts';
import { probability } from './threshold.ts';

/** Where no residual is left, which only rounding can cause, p_target decides, this far below any real residual. */
const fallback = -1000;

/**
 * A token of max(0, p_target − p_draft), or of p_target after the last draft and where the draft model had no token to
 * offer. The draw's margin is cautious: a difference of two near probabilities is known less well than either.
 */
export function residual(
  drafts: readonly number[], // (K,), the drafts that count
  acceptedCount: number,
  targetRows: readonly WarpedRow[], // (K + 1,)
  draftRows: readonly WarpedRow[], // (K,)
  seed: Seed,
  /** Committed tokens: the position of drafts[0]. */
  length: number,
): Draw {
  const target = targetRows[acceptedCount]!;
  const wasRefused = acceptedCount < drafts.length && drafts[acceptedCount] !== noToken;
  const draft = wasRefused ? draftRows[acceptedCount]! : null;
  const position = length + acceptedCount;
  const weightsOf = (id: number) => {
    const inTarget = probability(target.warped, target.distribution, id);
    return { inTarget, inDraft: draft === null ? 0 : probability(draft.warped, draft.distribution, id) };
  };
  const scoreOf = (id: number, rounding: number): number | null => {
    const { inTarget, inDraft } = weightsOf(id);
    if (inTarget === 0) return null;
    // Equal probabilities come of equal logits, and are equal in any arithmetic.
    const weight = inTarget === inDraft ? 0 : inTarget - inDraft + rounding * (inTarget + inDraft);
    const noise = gumbel(randomBits(seed, position, purposes.residual, id));
    return (weight > 0 ? Math.log(weight) : Math.log(inTarget) + fallback) + noise;
  };
  const draw = drawBest(target.warped.length, (id) => scoreOf(id, 0));
  if (draft === null) return draw;
  // f32 probabilities, of exp() of logits, are good to about 1e-6: would the winner still win at its worst?
  const rivals = drawBest(target.warped.length, (id) => (id === draw.token ? null : scoreOf(id, 1e-6)));
  if (rivals.token === noToken) return draw;
  return { token: draw.token, margin: scoreOf(draw.token, -1e-6)! - scoreOf(rivals.token, 1e-6)! };
}
