/** What the key-value caches hold, so that a request that continues an earlier one need not be fed its beginning again. */
export type FedTokens = {
  /** Tokens of the last sequence, by position. */
  tokens: readonly number[];
  /** The first of them whose keys and values are in the target's cache. */
  targetCount: number;
  /** The first of them whose keys and values are in the draft's. */
  draftCount: number;
};

export const nothingFed: FedTokens = { tokens: [], targetCount: 0, draftCount: 0 };

/** How many tokens of a prompt the target's cache holds. Rows have the same bits in every pass, so they need not be fed. */
export function commonPrefix({ tokens, targetCount }: FedTokens, promptTokens: readonly number[]): number {
  const length = Math.min(targetCount, promptTokens.length);
  for (let i = 0; i < length; i++) if (tokens[i] !== promptTokens[i]) return i;
  return length;
}
