import { describe, expect, test } from 'vitest';
import { parseGgufHead } from '../../../src/model/gguf.ts';
import { readMetadata } from '../../../src/model/gguf_metadata.ts';
import { endTokenIds, readGgufTokenizer } from '../../../src/model/gguf_tokenizer.ts';
import { createTokenizer, type Tokenizer } from '../../../src/model/tokenizer.ts';
import { type GgufFields, ggufTokenizerFields, writeGguf } from '../../reference/gguf.ts';
import { createRandom } from '../../reference/random.ts';
import { encodeSentencePiece, type Piece } from '../../reference/sentencepiece.ts';

const metadataOf = (fields: GgufFields) =>
  readMetadata(parseGgufHead(writeGguf(fields, []), true, 'x.gguf')!, 'x.gguf');
function tokenizerOf(fields: GgufFields): Tokenizer {
  const { tokenizerJson, tokenizerConfig, pieceRanks } = readGgufTokenizer(metadataOf(fields));
  return createTokenizer(tokenizerJson, tokenizerConfig, 'x.gguf', pieceRanks);
}

const typeNumbers = { normal: 1, unknown: 2, control: 3, user: 4, unused: 5, byte: 6 };
const pieceFields = (pieces: readonly Piece[], fields: GgufFields = {}): GgufFields => ({
  'tokenizer.ggml.model': ['string', 'llama'],
  'tokenizer.ggml.tokens': ['strings', pieces.map(({ text }) => text)],
  'tokenizer.ggml.scores': ['f32s', pieces.map(({ score }) => score)],
  'tokenizer.ggml.token_type': ['i32s', pieces.map(({ type }) => typeNumbers[type])],
  'tokenizer.ggml.bos_token_id': ['u32', 1],
  'tokenizer.ggml.eos_token_id': ['u32', 2],
  'tokenizer.ggml.unknown_token_id': ['u32', 0],
  ...fields,
});

/** <unk>, <s>, </s>, the 256 bytes, the letters, and random merges of those that are there already. */
function randomPieces(seed: number): Piece[] {
  const random = createRandom(seed);
  const pieces: Piece[] = [
    { text: '<unk>', score: 0, type: 'unknown' },
    { text: '<s>', score: 0, type: 'control' },
    { text: '</s>', score: 0, type: 'control' },
    { text: '<unused>', score: 0, type: 'unused' },
    { text: 'cab', score: 0, type: 'user' },
    { text: '  ', score: 0, type: 'user' },
    ...Array.from({ length: 256 }, (_, byte): Piece => {
      return { text: `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`, score: 0, type: 'byte' };
    }),
  ];
  const parts = ['▁', 'a', 'b', 'c', 'é', '😀'];
  const known = new Set(parts);
  const merged: string[] = [];
  while (merged.length < 40) {
    const pair = parts[random.integer(parts.length)]! + parts[random.integer(parts.length)]!;
    if (known.has(pair) || [...pair].length > 6 || pair === 'cab') continue;
    known.add(pair);
    parts.push(pair);
    merged.push(pair);
  }
  // As in trained vocabularies the letters last. Of equal scores the leftmost pair merges first.
  const add = (text: string, rank: number) => pieces.push({ text, score: -(rank >> 1), type: 'normal' });
  for (const [rank, text] of merged.entries()) add(text, rank);
  for (const [i, text] of ['▁', 'a', 'b', 'c', 'é', '😀'].entries()) add(text, merged.length + i);
  return pieces;
}

describe('SentencePiece BPE', () => {
  test.each([
    [1, true],
    [2, false],
    [3, true],
    [4, false],
  ])('random pieces %i, with a prefix: %s: the ids of the definition', (seed, prefix) => {
    const pieces = randomPieces(seed);
    const tokenizer = tokenizerOf(
      pieceFields(pieces, {
        'tokenizer.ggml.add_space_prefix': ['bool', prefix],
        'tokenizer.ggml.add_bos_token': ['bool', false],
      }),
    );
    const random = createRandom(seed + 10);
    // Behind a prefix, of which the parts between added tokens get one each, a written ▁ is no blank of such a token.
    const letters = [...'aaabbbccc   éé', '😀', 'x', '\n', '</s>', 'ж', ...(prefix ? [] : '▁▁')];
    let merges = 0;
    for (let round = 0; round < 300; round++) {
      const text = Array.from({ length: 1 + random.integer(24) }, () => letters[random.integer(letters.length)]).join(
        '',
      );
      const expected = encodeSentencePiece(pieces, text, prefix);
      expect([text, tokenizer.encode(text)]).toEqual([text, expected]);
      // A prefix goes in front of each part, and is taken away from the first.
      if (!prefix || !/<\/s>|cab| {2}/.test(text))
        expect(tokenizer.decode(expected)).toBe(text.replaceAll('</s>', '').replaceAll('▁', ' '));
      merges += expected.filter((id) => [...pieces[id]!.text].length > 1 && pieces[id]!.type === 'normal').length;
    }
    expect(merges).toBeGreaterThan(150);
  });

  test('a beginning of sequence goes in front, unless the file denies it', () => {
    const pieces = randomPieces(5);
    const bare = encodeSentencePiece(pieces, 'ab', true);
    expect(tokenizerOf(pieceFields(pieces)).encode('ab')).toEqual([1, ...bare]);
    const denied = pieceFields(pieces, { 'tokenizer.ggml.add_bos_token': ['bool', false] });
    expect(tokenizerOf(denied).encode('ab')).toEqual(bare);
  });

  test('what is no piece of text is silent, or no token at all', () => {
    const tokenizer = tokenizerOf(pieceFields(randomPieces(6)));
    expect(tokenizer.decode([1, 2, 0])).toBe('');
    expect(tokenizer.textOf(2)).toBe('</s>');
    expect(tokenizer.tokenOf(3)).toBe(''); // unused
    expect(tokenizer.decode([4, 5])).toBe('cab  ');
  });

  test('scores that are not there', () => {
    const fields = pieceFields(randomPieces(7), { 'tokenizer.ggml.scores': ['f32s', [1]] });
    expect(() => tokenizerOf(fields)).toThrow(/x\.gguf has no valid tokenizer: it has 1 token scores for \d+ tokens/);
  });
});

/** A byte-level vocabulary in which everything within a word merges: its tokens are the words. */
function wordsOf(pre: string, text: string): string[] {
  const characterOf = new Map<number, string>();
  for (let byte = 0, next = 256; byte < 256; byte++) {
    const printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    characterOf.set(byte, String.fromCharCode(printable ? byte : next++));
  }
  const spelled = Array.from(new TextEncoder().encode(text.normalize('NFC')), (byte) => characterOf.get(byte)!);
  const vocab = new Set([...characterOf.values()]);
  const merges = new Set<string>();
  for (let start = 0; start < spelled.length; start++) {
    for (let end = start + 2; end <= spelled.length; end++) {
      const [left, right] = [spelled.slice(start, end - 1).join(''), spelled[end - 1]!];
      vocab.add(left + right);
      merges.add(`${left} ${right}`);
    }
  }
  // Long ones first: a word grows from its start.
  const ranked = [...merges].sort((a, b) => b.length - a.length);
  const json = { model: { vocab: Object.fromEntries([...vocab].map((token, id) => [token, id])), merges: ranked } };
  const tokenizer = tokenizerOf(ggufTokenizerFields(json, pre, vocab.size));
  return tokenizer.encode(text).map((id) => tokenizer.textOf(id));
}

describe('byte-level BPE cuts words as its name says', () => {
  const text = "I'LL don't  pay 12345 $50 (naïve)\n\n x3😀 HTTPWide";
  const gpt2 = [
    'I',
    "'",
    'LL',
    ' don',
    "'t",
    ' ',
    ' pay',
    ' 12345',
    ' $',
    '50',
    ' (',
    'naïve',
    ')',
    '\n\n',
    ' x',
    '3',
    '😀',
    ' HTTPWide',
  ];
  const oneDigit = gpt2.flatMap((word) =>
    word === ' 12345' ? [' ', '1', '2', '3', '4', '5'] : word === '50' ? ['5', '0'] : [word],
  );
  const gpt4 = [
    'I',
    "'LL",
    ' don',
    "'t",
    ' ',
    ' pay',
    ' ',
    '123',
    '45',
    ' $',
    '50',
    ' (',
    'naïve',
    ')\n\n',
    ' x',
    '3',
    '😀',
    ' HTTPWide',
  ];
  const qwen = gpt4.flatMap((word) => (/\d{2}/.test(word) ? [...word] : [word]));
  const gpt4o = ["I'LL", " don't", ...gpt4.slice(4, -1), ' HTTPWide'];
  const punctuated = ["'", '$', '(', ')'];
  const standard = gpt2.flatMap((word) => {
    if (word === ' 12345') return [' ', '123', '45'];
    const mark = punctuated.find((candidate) => word.includes(candidate));
    return mark === undefined
      ? [word]
      : word
          .split(mark)
          .flatMap((part, i) => (i === 0 ? [part] : [mark, part]))
          .filter(Boolean);
  });
  test.each([
    ['gpt-2', gpt2],
    ['olmo', gpt2],
    ['smollm', oneDigit],
    ['starcoder', oneDigit],
    ['llama-bpe', gpt4],
    ['dbrx', gpt4],
    ['qwen2', qwen],
    ['gpt-4o', gpt4o],
    ['tekken', qwen],
    ['default', standard],
  ])('%s', (pre, words) => {
    expect(wordsOf(pre, text)).toEqual(words);
  });

  test('only qwen2 composes characters', () => {
    const decomposed = 'e\u0301';
    expect(wordsOf('qwen2', decomposed).join('')).toBe('\u00e9');
    const { tokenizerJson } = readGgufTokenizer(
      metadataOf(ggufTokenizerFields({ model: { vocab: { a: 0 }, merges: [] } }, 'llama-bpe', 1)),
    );
    expect(tokenizerJson.normalizer).toBeNull();
  });

  test('only that of Llama 3 takes a known word whole, whatever the merges make of it', () => {
    const vocab = { a: 0, b: 1, c: 2, ab: 3, abc: 4 };
    const fields = (pre: string) => ggufTokenizerFields({ model: { vocab, merges: ['a b'] } }, pre, 5);
    expect(tokenizerOf(fields('llama-bpe')).encode('abc')).toEqual([4]);
    expect(tokenizerOf(fields('qwen2')).encode('abc')).toEqual([3, 2]);
  });
});

describe('the tokens around a text', () => {
  const json = {
    model: { vocab: { a: 0, b: 1 }, merges: [] },
    added_tokens: [
      { id: 2, content: '<|begin|>', special: true },
      { id: 3, content: '<|eot_id|>', special: true },
      { id: 4, content: '<tool>', special: false },
      { id: 5, content: '<end_of_turn>', special: false },
      { id: 6, content: '<|im_end|>', special: true },
    ],
  };
  const fields = (pre: string, more: GgufFields = {}) => ({ ...ggufTokenizerFields(json, pre, 9), ...more });
  const bos: GgufFields = { 'tokenizer.ggml.bos_token_id': ['u32', 2] };

  test('a beginning of sequence where the file says so, or is of Llama 3', () => {
    expect(tokenizerOf(fields('qwen2', bos)).encode('ab')).toEqual([0, 1]);
    expect(
      tokenizerOf(fields('qwen2', { ...bos, 'tokenizer.ggml.add_bos_token': ['bool', true] })).encode('ab'),
    ).toEqual([2, 0, 1]);
    expect(tokenizerOf(fields('llama-bpe', bos)).encode('ab')).toEqual([2, 0, 1]);
    expect(tokenizerOf(fields('llama-bpe')).encode('ab')).toEqual([0, 1]);
  });

  test('special tokens are found in a text and silent in the output; the others are text', () => {
    const tokenizer = tokenizerOf(fields('qwen2'));
    expect(tokenizer.encode('a<|eot_id|><tool>b')).toEqual([0, 3, 4, 1]);
    expect(tokenizer.decode([0, 3, 4, 1])).toBe('a<tool>b');
    expect([tokenizer.vocabSize, tokenizer.baseVocabSize]).toEqual([7, 2]); // the rest is padding
  });

  test('generation ends at the tokens that the file names, and at those that end a turn', () => {
    expect(endTokenIds(metadataOf(fields('qwen2')))).toEqual([3, 6]);
    const named: GgufFields = { 'tokenizer.ggml.eos_token_id': ['u32', 6], 'tokenizer.ggml.eot_token_id': ['u32', 4] };
    expect(endTokenIds(metadataOf(fields('qwen2', named)))).toEqual([6, 4, 3]);
  });
});
