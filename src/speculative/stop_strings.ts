/** Searches a text for stop strings as it comes, piece by piece. */
export type StopSearch = {
  /**
   * Takes the next piece. `released` is the text that can be shown now; the end of the text is held back for as long
   * as it may be the beginning of a stop string. After a match the search is over: what is left of it is not shown.
   */
  push(text: string): { released: string; matched: string | null };
  /** At the end of the text: what is held back, which has turned out to be no stop string. */
  flush(): string;
};

/**
 * The stop string that is complete first ends the text; of several complete at the same character the longest, which
 * began first. So a match depends on the text alone and not on how it was cut into pieces, and never waits for more.
 *
 * Knuth, Morris & Pratt 1977: for each stop string, the length of its longest beginning that the text ends with.
 * The longest of these is what may still become a stop string.
 */
export function createStopSearch(stops: readonly string[]): StopSearch {
  const patterns = stops.map((stop) => ({ stop, fallback: fallbackLengths(stop), length: 0 }));
  let held = '';
  return {
    push(piece) {
      const text = held + piece;
      for (let end = held.length + 1; end <= text.length; end += 1) {
        const unit = text[end - 1];
        let matched: string | null = null;
        for (const pattern of patterns) {
          const { stop, fallback } = pattern;
          while (pattern.length > 0 && stop[pattern.length] !== unit) pattern.length = fallback[pattern.length - 1]!;
          if (stop[pattern.length] === unit) pattern.length += 1;
          if (pattern.length === stop.length && stop.length > (matched?.length ?? 0)) matched = stop;
        }
        if (matched !== null) {
          held = '';
          return { released: text.slice(0, end - matched.length), matched };
        }
      }
      const heldLength = Math.max(0, ...patterns.map(({ length }) => length));
      held = text.slice(text.length - heldLength);
      return { released: text.slice(0, text.length - heldLength), matched: null };
    },
    flush() {
      const text = held;
      held = '';
      return text;
    },
  };
}

/** [i] = length of the longest proper beginning of `text` that `text.slice(0, i + 1)` ends with. */
function fallbackLengths(text: string): number[] {
  const lengths = [0];
  let length = 0;
  for (let i = 1; i < text.length; i += 1) {
    while (length > 0 && text[length] !== text[i]) length = lengths[length - 1]!;
    if (text[length] === text[i]) length += 1;
    lengths.push(length);
  }
  return lengths;
}
