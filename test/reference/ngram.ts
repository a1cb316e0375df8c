/** Integer twin of shaders/ngram.wgsl: prompt lookup decoding (Saxena 2023), by trying every length and place. */
export function ngramDrafts(
  history: readonly number[],
  { draftLength, shortest, longest }: { draftLength: number; shortest: number; longest: number },
): number[] {
  for (let size = Math.min(longest, history.length - 1); size >= shortest; size--) {
    const suffix = history.slice(-size).join();
    for (let end = history.length - 1; end >= size; end--) {
      if (history.slice(end - size, end).join() === suffix) return history.slice(end, end + draftLength);
    }
  }
  return [];
}
