import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createTokenizer, wrapTokenizer } from '../../../src/model/tokenizer.ts';
import type { TokenizerLike } from '../../../src/types.ts';
import {
  bytesOf,
  bytesOfToken,
  decodeByBytes,
  idOfByte,
  llama2Style,
  stories,
  storiesConfig,
  tokenizer,
} from './tokenizers.ts';

const BOS = '<|endoftext|>';

describe('pieces', () => {
  test('of every token of a byte-level vocabulary, as its bytes tell', () => {
    for (let id = 2; id < tokenizer.vocabSize; id += 1) {
      const bytes = bytesOfToken.get(id)!;
      expect(tokenizer.pieceOf(id)).toEqual({ text: decodeByBytes([id]), bytes });
    }
    expect(bytesOfToken.size).toBe(2046);
    expect(tokenizer.pieceOf(idOfByte(0xf0))).toEqual({ text: '\uFFFD', bytes: [0xf0] });
  });

  test('their bytes are the bytes of the text that they make', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 40 }), (text) => {
        const bytes = tokenizer.encodeRendered(text).flatMap((id) => tokenizer.pieceOf(id).bytes ?? [-1]);
        expect(bytes).toEqual(bytesOf(text));
      }),
      { numRuns: 200 },
    );
  });

  test('special tokens have their text; an id without a token has none', () => {
    expect(tokenizer.pieceOf(0)).toEqual({ text: BOS, bytes: bytesOf(BOS) });
    expect(tokenizer.pieceOf(99_999)).toEqual({ text: '', bytes: [] });
  });

  test('SentencePiece: the blank in front is there, and bytes without a token of their own tell which', () => {
    const llama = llama2Style();
    const piece = (token: string) => llama.pieceOf(llama.idOf(token)!);
    expect(piece('▁a')).toEqual({ text: ' a', bytes: [32, 97] });
    expect(piece('▁▁')).toEqual({ text: '  ', bytes: [32, 32] });
    expect(piece('ab')).toEqual({ text: 'ab', bytes: [97, 98] });
    expect(piece('<0xE2>')).toEqual({ text: '\uFFFD', bytes: [0xe2] });
    expect(piece('<0x0A>')).toEqual({ text: '\n', bytes: [10] });
    expect(piece('</s>')).toEqual({ text: '</s>', bytes: bytesOf('</s>') });
    // Alone, the first of a text, it would lose its blank.
    expect(llama.textOf(llama.idOf('▁a')!)).toBe('a');
  });

  test('a token that is U+FFFD itself has its bytes', () => {
    const json = stories() as { model: { vocab: Record<string, number>; merges: string[] } };
    const id = Object.keys(json.model.vocab).length;
    json.model.vocab['ï¿½'] = id;
    const own = createTokenizer(json, storiesConfig(), 'x');
    expect(own.pieceOf(id)).toEqual({ text: '\uFFFD', bytes: [0xef, 0xbf, 0xbd] });
  });

  test('of a tokenizer object: texts, and bytes where the text is whole', () => {
    const calls: unknown[] = [];
    const bytewise: TokenizerLike = {
      encode(text, options) {
        calls.push(options);
        return bytesOf(text);
      },
      decode: (ids) => new TextDecoder().decode(Uint8Array.from(ids)),
    };
    const wrapped = wrapTokenizer(bytewise, 256);
    expect(calls).toEqual([]);
    expect(wrapped.pieceOf(97)).toEqual({ text: 'a', bytes: [97] });
    expect(wrapped.pieceOf(0xf0)).toEqual({ text: '\uFFFD', bytes: null });
    expect(wrapped.encodeRendered('ab')).toEqual([97, 98]);
    expect(calls).toEqual([{ add_special_tokens: false }, { add_special_tokens: false }]);
    expect(() => wrapTokenizer({ ...bytewise, encode: () => [256] }, 256).encodeRendered('x')).toThrow(/0 to 255/);
  });
});

describe('the text of a chat template', () => {
  const once = tokenizer.idOf('Once')!;

  test('says itself whether it begins with BOS, and never gets another', () => {
    expect(tokenizer.encode('Once')).toEqual([0, once]);
    expect(tokenizer.encodeRendered('Once')).toEqual([once]);
    expect(tokenizer.encodeRendered(`${BOS}Once`)).toEqual([0, once]);
    expect(tokenizer.encodeRendered(`${BOS}${BOS}Once`)).toEqual([0, 0, once]);
    expect(tokenizer.encodeRendered('')).toEqual([]);
    const llama = llama2Style();
    expect(llama.encodeRendered('<s>a')).toEqual([1, llama.idOf('▁a')]);
    expect(llama.encodeRendered('a')).toEqual([llama.idOf('▁a')]);
  });

  test('has its special tokens read as such, wherever they stand', () => {
    const json = { ...stories(), added_tokens: [...(stories().added_tokens as object[]), ...chatMl] };
    const withTurns = createTokenizer(json, storiesConfig(), 'x');
    expect(withTurns.encodeRendered('<|im_start|>Once<|im_end|>Once')).toEqual([2048, once, 2049, once]);
  });
});

const chatMl = ['<|im_start|>', '<|im_end|>'].map((content, i) => ({ id: 2048 + i, content, special: true }));
