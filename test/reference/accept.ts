/**
 * Twin of shaders/accept.wgsl. Greedy and seeded: the longest prefix of drafts that equals the target's own choices is
 * kept, and the target's choice after it comes for free (the bonus token). With rejection sampling the accepted drafts
 * have been counted (reject.ts) and the token after them drawn (residual.ts) before.
 */
import { noToken } from './argmax.ts';

export type AcceptLimits = {
  /** Committed tokens before this round, prompt included (n). */
  committedLength: number;
  /** No more tokens than this are ever committed: min(context, prompt + maxNewTokens). */
  maxLength: number;
  /** Drafts beyond it are not counted: with the bonus token a round can commit up to the context, not past it. */
  contextLength: number;
  stopTokenIds: readonly number[];
};

export type AcceptResult = {
  /** Drafts that counted as proposed: min(k, context − 1 − n). 0 makes it a plain round. */
  draftCount: number;
  /** Drafts that the target agreed with, 0..draftCount, before any truncation. */
  acceptedCount: number;
  /** What the round commits: accepted drafts and the bonus token, truncated after a stop token and at maxLength. */
  tokens: number[];
  /** Null while the request goes on. A stop token inside the limit is `stop`, also when it is the last one allowed. */
  finish: 'stop' | 'length' | null;
  /** The target had no finite logit to choose from where the next token was wanted: the request ends, as `length`. */
  nonFinite: boolean;
};

/** How many of k drafts a round with n committed tokens proposes. */
export function countDrafts(draftLength: number, committedLength: number, contextLength: number): number {
  return Math.max(0, Math.min(draftLength, contextLength - 1 - committedLength));
}

export function accept(
  drafts: readonly number[], // (K,)
  targetTokens: readonly number[], // (K + 1,): [i] is the target's choice after the first i drafts
  limits: AcceptLimits,
): AcceptResult {
  if (targetTokens.length !== drafts.length + 1) {
    throw new RangeError(`Expected ${drafts.length + 1} target tokens, got ${targetTokens.length}.`);
  }
  const draftCount = countDrafts(drafts.length, limits.committedLength, limits.contextLength);
  let acceptedCount = 0;
  while (acceptedCount < draftCount && drafts[acceptedCount] === targetTokens[acceptedCount]) acceptedCount++;
  // Accepted drafts equal the target's choices, so the target's row alone spells what is committed.
  return commit(draftCount, acceptedCount, targetTokens.slice(0, acceptedCount + 1), limits);
}

/** With rejection sampling: `nextToken` follows the `acceptedCount` accepted drafts. */
export function acceptRejected(
  drafts: readonly number[], // (K,)
  acceptedCount: number,
  nextToken: number,
  limits: AcceptLimits,
): AcceptResult {
  const draftCount = countDrafts(drafts.length, limits.committedLength, limits.contextLength);
  if (acceptedCount > draftCount) {
    throw new RangeError(`Expected at most ${draftCount} accepted drafts, got ${acceptedCount}.`);
  }
  return commit(draftCount, acceptedCount, [...drafts.slice(0, acceptedCount), nextToken], limits);
}

function commit(
  draftCount: number,
  acceptedCount: number,
  wanted: readonly number[], // (acceptedCount + 1,)
  { committedLength, maxLength, stopTokenIds }: AcceptLimits,
): AcceptResult {
  if (committedLength >= maxLength) {
    throw new RangeError(`A round needs room: ${committedLength} tokens are committed, ${maxLength} is the most.`);
  }
  const tokens: number[] = [];
  let finish: AcceptResult['finish'] = null;
  let nonFinite = false;
  for (const token of wanted) {
    nonFinite = token === noToken;
    if (nonFinite) {
      finish = 'length';
      break;
    }
    tokens.push(token);
    if (stopTokenIds.includes(token)) finish = 'stop';
    else if (committedLength + tokens.length === maxLength) finish = 'length';
    if (finish !== null) break;
  }
  return { draftCount, acceptedCount, tokens, finish, nonFinite };
}
