/** What a stop search has to find, by looking at every beginning of the whole text. */

/** The text before the stop string that is complete first (of several at one character the longest); null without one. */
export function firstStop(text: string, stops: readonly string[]): { text: string; matched: string } | null {
  for (let end = 1; end <= text.length; end += 1) {
    const complete = stops.filter((stop) => text.slice(0, end).endsWith(stop));
    if (complete.length === 0) continue;
    const matched = complete.reduce((longest, stop) => (stop.length > longest.length ? stop : longest));
    return { text: text.slice(0, end - matched.length), matched };
  }
  return null;
}

/** Length of the longest end of the text that is the beginning of a stop string. */
export function heldLength(text: string, stops: readonly string[]): number {
  for (let length = text.length; length > 0; length -= 1) {
    if (stops.some((stop) => stop.startsWith(text.slice(text.length - length)))) return length;
  }
  return 0;
}
