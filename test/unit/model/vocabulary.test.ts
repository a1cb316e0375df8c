import { describe, expect, test } from 'vitest';
import { VocabularyMismatchError } from '../../../src/errors.ts';
import { createTokenizer, wrapTokenizer } from '../../../src/model/tokenizer.ts';
import { checkSameVocabulary, type NamedVocabulary } from '../../../src/model/vocabulary.ts';
import { jsonOf, readFolder } from './folders.ts';

const named = (url: string, tokens: readonly string[]): NamedVocabulary => ({
  url,
  tokenizer: { vocabSize: tokens.length, hasTable: true, tokenOf: (id) => tokens[id], textOf: () => 'same' },
});
const tokens = Array.from({ length: 150_000 }, (_, i) => `token ${i}`);

describe('checkSameVocabulary', () => {
  test('the embedded pair shares one', () => {
    const [target, draft] = (['stories-3m', 'stories-650k'] as const).map((model) => {
      const files = readFolder(model);
      return { url: model, tokenizer: createTokenizer(jsonOf(files, 'tokenizer.json'), null, model) };
    });
    expect(() => checkSameVocabulary(target!, draft!)).not.toThrow();
  });

  test('150,000 tokens are compared in well under a second, the last one included', () => {
    const other = [...tokens];
    other[149_999] = 'other';
    const start = performance.now();
    expect(() => checkSameVocabulary(named('t', tokens), named('d', [...tokens]))).not.toThrow();
    expect(() => checkSameVocabulary(named('t', tokens), named('d', other))).toThrow(
      /draft model d .*target t: token id 149999 is "other" in the draft .* and "token 149999" in the target/,
    );
    expect(performance.now() - start).toBeLessThan(500);
  });

  test('names the first difference, and the sizes', () => {
    const check = () => checkSameVocabulary(named('t', ['a', 'b', 'c']), named('d', ['a', 'x', 'y', 'z']));
    expect(check).toThrow(VocabularyMismatchError);
    expect(check).toThrow(/id 1 is "x" in the draft \(4 tokens\) and "b" in the target \(3 tokens\)/);
  });

  test('a longer one differs, on either side', () => {
    expect(() => checkSameVocabulary(named('t', ['a']), named('d', ['a', 'b']))).toThrow(
      /id 1 is "b" in the draft \(2 tokens\) and no token in the target \(1 tokens\)/,
    );
    expect(() => checkSameVocabulary(named('t', ['a', 'b']), named('d', ['a']))).toThrow(
      /id 1 is no token in the draft/,
    );
    // A hole at the end is padding.
    expect(() => checkSameVocabulary(named('t', ['a', '']), named('d', ['a']))).not.toThrow();
  });

  test('blanks of a token may be written as themselves or as ▁', () => {
    expect(() => checkSameVocabulary(named('t', ['▁▁', 'a']), named('d', ['  ', 'a']))).not.toThrow();
    expect(() => checkSameVocabulary(named('t', ['▁▁', 'a']), named('d', [' ', 'a']))).toThrow(
      /id 0 is " " in the draft/,
    );
  });

  test("a caller's own tokenizer object is compared by the text of its tokens", () => {
    const files = readFolder('stories-3m');
    const tokenizer = createTokenizer(jsonOf(files, 'tokenizer.json'), null, 'x');
    const wrap = (swap: (id: number) => number) =>
      wrapTokenizer({ encode: () => [], decode: ([id]) => tokenizer.textOf(swap(id!)) }, 2112);
    const draft = { url: 'd', tokenizer };
    expect(() => checkSameVocabulary({ url: 't', tokenizer: wrap((id) => id) }, draft)).not.toThrow();
    const y = tokenizer.idOf('y')!;
    expect(() => checkSameVocabulary({ url: 't', tokenizer: wrap((id) => (id === y ? y + 1 : id)) }, draft)).toThrow(
      `token id ${y} is "y" in the draft (2048 tokens) and "z" in the target (2112 tokens)`,
    );
  });
});
