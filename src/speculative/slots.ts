/** What the slots' pages hold, so that a prompt that begins as another did need not be fed its beginning again. */
import type { Gpu } from '../gpu/device.ts';
import { copyPages } from '../model/copy_pages.ts';
import { assignPages, blockSize, type KvCache } from '../model/kv_cache.ts';

export type FedTokens = {
  /** Tokens of the last sequence, by position. */
  tokens: readonly number[];
  /** The first of them whose keys and values are in the target's cache. */
  targetCount: number;
  /** The first of them whose keys and values are in the draft's. */
  draftCount: number;
};

export const nothingFed: FedTokens = { tokens: [], targetCount: 0, draftCount: 0 };

export type Slot = {
  /** Counts its sequences, so that a record of an earlier one is recognised. */
  epoch: number;
  /** What its pages hold, or will when the work submitted so far is done. */
  fed: FedTokens;
  pages: readonly number[];
};

/** The caches of the pair: each page number means a page of either. */
export type Caches = { target: KvCache; draft: KvCache | null };

/** Tokens that are worth a wait for rounds under way, or a copy: as many as one pass feeds at the price of a round. */
export const worthWaiting = 8;

export const createSlots = (count: number): Slot[] =>
  Array.from({ length: count }, () => ({ epoch: 0, fed: nothingFed, pages: [] }));

/** How many tokens two sequences begin with in common, of the first `longest`. */
export function commonLength(a: readonly number[], b: readonly number[], longest: number): number {
  const length = Math.min(longest, a.length, b.length);
  for (let i = 0; i < length; i++) if (a[i] !== b[i]) return i;
  return length;
}

/** How many tokens of a prompt the target's cache holds. Rows have the same bits in every pass, so they need not be fed. */
export const sharedLength = ({ fed }: Slot, promptTokens: readonly number[]): number =>
  commonLength(fed.tokens, promptTokens, fed.targetCount);

/** First tokens of a prompt that the slot's first `pageCount` pages hold. */
export const sharedTokens = (slot: Slot, promptTokens: readonly number[], pageCount: number): number =>
  Math.min(pageCount * blockSize, sharedLength(slot, promptTokens));

const firstPages = ({ tokens, targetCount, draftCount }: FedTokens, pageCount: number): FedTokens => ({
  tokens,
  targetCount: Math.min(targetCount, pageCount * blockSize),
  draftCount: Math.min(draftCount, pageCount * blockSize),
});

/** Gives a slot its pages, of which the first `keptCount` hold what it left there. */
export function takePages(
  gpu: Gpu,
  caches: Caches,
  slots: readonly Slot[],
  index: number,
  pages: readonly number[],
  keptCount: number,
): void {
  for (const cache of [caches.target, caches.draft]) if (cache) assignPages(gpu, cache, index, pages);
  const taken = new Set(pages);
  for (const [other, slot] of slots.entries()) {
    const lost = other === index ? keptCount : slot.pages.findIndex((page) => taken.has(page));
    if (lost >= 0) slot.fed = firstPages(slot.fed, lost);
    if (other === index) slot.pages = pages;
    else if (lost >= 0) slot.pages = slot.pages.slice(0, lost);
  }
}

/**
 * Lets a slot hold the longest beginning of `tokens` that any slot holds, but for the last token, and returns it. From
 * another slot it is copied, behind the work submitted so far.
 */
export function reusePrefix(
  gpu: Gpu,
  caches: Caches,
  slots: readonly Slot[],
  index: number,
  tokens: readonly number[],
): { targetFed: number; draftFed: number } {
  const mine = slots[index] as Slot;
  let best = { slot: mine, shared: sharedLength(mine, tokens) };
  for (const slot of slots) {
    const shared = sharedLength(slot, tokens);
    // Of little use what is only a little longer.
    if (shared >= best.shared + (best.slot === mine ? worthWaiting : 1)) best = { slot, shared };
  }
  // The last token is always fed: the first new one comes from its row.
  const targetFed = Math.min(best.shared, tokens.length - 1);
  const draftFed = Math.min(best.shared, best.slot.fed.draftCount);
  if (best.slot !== mine) {
    for (const [cache, count] of [
      [caches.target, targetFed],
      [caches.draft, draftFed],
    ] as const) {
      const pageCount = Math.ceil(count / blockSize);
      if (cache && pageCount > 0) {
        copyPages(gpu, cache, best.slot.pages.slice(0, pageCount), mine.pages.slice(0, pageCount));
      }
    }
  }
  mine.fed = { tokens, targetCount: targetFed, draftCount: draftFed };
  return { targetFed, draftFed };
}
