import { expect } from 'vitest';
import { createTokenizer, type Tokenizer } from '../../../src/model/tokenizer.ts';
import { jsonOf, readFolder } from './folders.ts';

export type Json = Record<string, unknown>;
const files = readFolder('stories-3m');
export const stories = () => jsonOf(files, 'tokenizer.json');
export const storiesConfig = () => jsonOf(files, 'tokenizer_config.json');
export const tokenizer = createTokenizer(stories(), storiesConfig(), 'tokenizer.json');

/** Byte of each character of a byte-level vocabulary, by the rule of GPT-2: printable bytes stand for themselves. */
const byteOfCharacter = new Map<string, number>();
for (let byte = 0, next = 256; byte < 256; byte++) {
  const printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  byteOfCharacter.set(String.fromCharCode(printable ? byte : next++), byte);
}
const vocab = (stories().model as { vocab: Record<string, number> }).vocab;
export const bytesOfToken = new Map(
  Object.entries(vocab)
    .filter(([, id]) => id > 1)
    .map(([token, id]) => [id, [...token].map((character) => byteOfCharacter.get(character)!)]),
);
/** What a token sequence says, without the library: bytes, then UTF-8. Ids 0 and 1 are special. */
export const decodeByBytes = (tokens: readonly number[]) =>
  new TextDecoder('utf-8', { ignoreBOM: true }).decode(
    Uint8Array.from(tokens.flatMap((id) => bytesOfToken.get(id) ?? [])),
  );
const idsOfBytes = new Map([...bytesOfToken].flatMap(([id, bytes]) => (bytes.length === 1 ? [[bytes[0]!, id]] : [])));
export const idOfByte = (byte: number) => idsOfBytes.get(byte)!;
export const bytesOf = (text: string) => [...new TextEncoder().encode(text)];

/** A tokenizer in the style of Llama 2: blanks as ▁, a byte fallback, and a decoder that strips the first blank. */
export function llama2Style(): Tokenizer {
  const bytes = Array.from({ length: 256 }, (_, i) => `<0x${i.toString(16).toUpperCase().padStart(2, '0')}>`);
  const tokens = ['<unk>', '<s>', '</s>', ...bytes, '▁', 'a', 'b', '▁a', 'ab', '▁▁'];
  const json = {
    added_tokens: [0, 1, 2].map((id) => ({ id, content: tokens[id], special: true })),
    normalizer: {
      type: 'Sequence',
      normalizers: [
        { type: 'Prepend', prepend: '▁' },
        { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
      ],
    },
    post_processor: {
      type: 'TemplateProcessing',
      single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
      pair: [],
      special_tokens: { '<s>': { id: '<s>', ids: [1], tokens: ['<s>'] } },
    },
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        { type: 'Strip', content: ' ', start: 1, stop: 0 },
      ],
    },
    model: {
      type: 'BPE',
      byte_fallback: true,
      fuse_unk: true,
      unk_token: '<unk>',
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges: ['▁ a', 'a b', '▁ ▁'],
    },
  };
  return createTokenizer(json, null, 'llama2.json');
}

export function streamed(source: Pick<Tokenizer, 'createTextStream'>, tokens: readonly number[]) {
  const stream = source.createTextStream();
  const pieces = tokens.map((token) => stream.push(token));
  return { pieces, last: stream.flush() };
}

/** Pieces + flush are the whole, and U+FFFD never stands where the whole has a character. */
export function expectExactStream(source: Tokenizer, tokens: readonly number[]): void {
  const { pieces, last } = streamed(source, tokens);
  const whole = source.decode(tokens);
  expect(pieces.join('') + last).toBe(whole);
  let length = 0;
  for (const piece of pieces) {
    expect(whole.slice(length, length + piece.length)).toBe(piece);
    // No half of a surrogate pair.
    expect(piece).not.toMatch(/\p{Surrogate}/u);
    length += piece.length;
  }
}
