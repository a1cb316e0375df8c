/** What single tokens say: their text as it stands inside a longer one, and their bytes. */

export type TokenPiece = {
  /** Half a character shows as U+FFFD. Special tokens have their text too; an id without a token has none. */
  text: string;
  /** UTF-8. Null where the tokenizer does not tell. */
  bytes: number[] | null;
};

/**
 * A decoder may strip the blank in front of a text's first token, or miss it between words, so each token is decoded
 * behind `neighbour`. `bytesOf` knows what the vocabulary says of a token whose text is not all it is.
 */
export function createPieceReader(
  decode: (tokens: readonly number[]) => string,
  neighbour: number | undefined,
  bytesOf: (id: number) => number[] | null,
): (id: number) => TokenPiece {
  const known = new Map<number, TokenPiece>();
  const before = neighbour === undefined ? '' : decode([neighbour]);
  const textOf = (id: number): string => {
    const both = neighbour === undefined ? '' : decode([neighbour, id]);
    return before !== '' && both.startsWith(before) ? both.slice(before.length) : decode([id]);
  };
  return (id) => {
    let piece = known.get(id);
    if (piece === undefined) {
      const text = textOf(id);
      // Without U+FFFD the text is all that there is.
      piece = { text, bytes: text.includes('\uFFFD') ? bytesOf(id) : utf8(text) };
      known.set(id, piece);
    }
    return piece;
  };
}

const utf8 = (text: string): number[] => [...new TextEncoder().encode(text)];

/** The rule of GPT-2: printable bytes stand for themselves, the others for characters from 256 on. */
const byteOfCharacter: ReadonlyMap<string, number> = (() => {
  const bytes = new Map<string, number>();
  let next = 256;
  for (let byte = 0; byte < 256; byte += 1) {
    const isPrintable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    bytes.set(String.fromCharCode(isPrintable ? byte : next++), byte);
  }
  return bytes;
})();

/** Bytes of a token as a byte-level vocabulary writes it, e.g. `ðŁĺ`. Null for what no such vocabulary has. */
export function byteLevelBytes(token: string): number[] | null {
  const bytes = [...token].map((character) => byteOfCharacter.get(character));
  return bytes.some((byte) => byte === undefined) ? null : (bytes as number[]);
}

/** The byte of a token that stands for one, as SentencePiece writes it: `<0xE2>`. */
export function byteFallbackBytes(token: string): number[] | null {
  const hex = /^<0x([0-9A-Fa-f]{2})>$/.exec(token)?.[1];
  return hex === undefined ? null : [Number.parseInt(hex, 16)];
}
