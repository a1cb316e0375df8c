/**
 * SentencePiece's BPE on characters, by its definition (Kudo & Richardson 2018, and llama.cpp's llm_tokenizer_spm): as long
 * as two neighbours make a known piece, the pair with the highest score merges, the leftmost of equals. What is left
 * without a piece becomes its UTF-8 bytes.
 */
export type Piece = {
  text: string;
  score: number;
  type: 'normal' | 'unknown' | 'control' | 'user' | 'unused' | 'byte';
};

export function encodeSentencePiece(pieces: readonly Piece[], text: string, addPrefix: boolean): number[] {
  const ids = new Map(pieces.map(({ text: piece }, id) => [piece, id]));
  const isNormal = (piece: string) => pieces[ids.get(piece) ?? -1]?.type === 'normal';
  const whole = pieces.filter(({ type }) => type === 'control' || type === 'user').map(({ text: piece }) => piece);
  const blanks = (piece: string) => piece.replaceAll(' ', '▁');

  const encodePart = (part: string): number[] => {
    let symbols = [...((addPrefix ? ' ' : '') + part).replaceAll(' ', '▁')];
    for (;;) {
      let best = -1;
      let bestScore = Number.NEGATIVE_INFINITY;
      for (let i = 0; i + 1 < symbols.length; i++) {
        const merged = symbols[i]! + symbols[i + 1]!;
        const score = isNormal(merged) ? pieces[ids.get(merged)!]!.score : Number.NEGATIVE_INFINITY;
        if (score > bestScore) [best, bestScore] = [i, score];
      }
      if (best < 0) break;
      symbols = [...symbols.slice(0, best), symbols[best]! + symbols[best + 1]!, ...symbols.slice(best + 2)];
    }
    return symbols.flatMap((symbol) => {
      if (isNormal(symbol)) return [ids.get(symbol)!];
      const bytes = [...new TextEncoder().encode(symbol)];
      return bytes.map((byte) => ids.get(`<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`)!);
    });
  };

  const result: number[] = [];
  let open = '';
  const close = () => {
    if (open !== '') result.push(...encodePart(open));
    open = '';
  };
  for (let at = 0; at < text.length; ) {
    const [longest] = whole
      .filter((piece) => blanks(text).startsWith(blanks(piece), at))
      .sort((a, b) => b.length - a.length);
    if (longest === undefined) {
      const character = String.fromCodePoint(text.codePointAt(at)!);
      open += character;
      at += character.length;
    } else {
      close();
      result.push(ids.get(longest)!);
      at += longest.length;
    }
  }
  close();
  return result;
}
