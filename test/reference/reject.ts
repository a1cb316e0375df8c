/** Float64 twin of shaders/reject.wgsl: how many drafts the target accepts (Leviathan et al. 2023, Algorithm 1). */
import { noToken } from './argmax.ts';
import { purposes, randomBits, type Seed, uniformOf } from './threefry.ts';
import { type Distribution, probability } from './threshold.ts';

/** A row of warped logits (V,) and what is kept of it. */
export type WarpedRow = { warped: Float64Array; distribution: Distribution };

export function reject(
  drafts: readonly number[], // (K,), the drafts that count
  targetRows: readonly WarpedRow[], // (K + 1,) or (K,)
  draftRows: readonly WarpedRow[], // (K,)
  seed: Seed,
  /** Committed tokens: the position of drafts[0]. */
  length: number,
): {
  acceptedCount: number;
  /** The smallest |u · p_draft − p_target| / p_target (0: p_draft) of the tests made. */
  margin: number;
} {
  let acceptedCount = 0;
  let margin = Infinity;
  for (; acceptedCount < drafts.length; acceptedCount++) {
    const draft = drafts[acceptedCount]!;
    const target = targetRows[acceptedCount]!;
    if (draft === noToken) break;
    const inTarget = probability(target.warped, target.distribution, draft);
    const inDraft = probability(draftRows[acceptedCount]!.warped, draftRows[acceptedCount]!.distribution, draft);
    const u = uniformOf(randomBits(seed, length + acceptedCount, purposes.accept, 0));
    if (inTarget > 0) margin = Math.min(margin, Math.abs(u * inDraft - inTarget) / inTarget);
    if (!(u * inDraft < inTarget)) break;
  }
  return { acceptedCount, margin };
}
