/** Turns tokens into text as they come. All pieces and the final flush concatenate to `decode` of all tokens. */
export type TextStream = {
  /** The text that this token completes; empty while a character is incomplete. */
  push(token: number): string;
  /** What is held back at the end: bytes that never became a character, as U+FFFD. */
  flush(): string;
};

/** Tokens that a shortened window keeps, and the length at which it is shortened. */
const KEPT_TOKENS = 12;
const MAX_TOKENS = 24;

/** A decoder that knows UTF-8 ends an incomplete character in one U+FFFD; a naive one in one per byte, of which 3 can be incomplete. */
const MAX_HELD = 3;

/**
 * Decodes a window of the last tokens on each push and emits what is new. U+FFFD at its end may be a character whose
 * bytes are not all here, so it waits for the next token.
 *
 * Why a window is enough, even one that begins inside a character: within 3 bytes a UTF-8 decoder is in step again, and
 * every token that is not silent has at least one byte. So of 12 tokens the last 9 bytes or more decode as they do in
 * the whole, which covers the held characters. What decoders do at the start of a text (strip a blank) stays at the
 * start of the window too, because new text is counted from the end.
 *
 * `isSilent` tells the tokens that decode to nothing anywhere (special ones).
 */
export function createTextStream(
  decode: (tokens: readonly number[]) => string,
  isSilent: (token: number) => boolean,
): TextStream {
  let window: number[] = [];
  let text = '';
  let heldLength = 0;

  function shorten(): void {
    const kept = window.slice(-KEPT_TOKENS);
    const keptText = decode(kept);
    // Fails only for a decoder that is not local in the sense above; then the long window stays, slow but right.
    if (keptText.length < heldLength || !text.endsWith(keptText.slice(keptText.length - heldLength))) return;
    window = kept;
    text = keptText;
  }

  return {
    push(token) {
      if (isSilent(token)) return '';
      if (window.length >= MAX_TOKENS) shorten();
      window.push(token);
      const emittedLength = text.length - heldLength;
      text = decode(window);
      const fresh = text.slice(emittedLength);
      heldLength = /\uFFFD*$/.exec(fresh.slice(-MAX_HELD))![0].length;
      return fresh.slice(0, fresh.length - heldLength);
    },
    flush() {
      const held = text.slice(text.length - heldLength);
      heldLength = 0;
      return held;
    },
  };
}
