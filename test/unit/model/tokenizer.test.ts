import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { InvalidOptionError, ModelFormatError, UnsupportedModelError } from '../../../src/errors.ts';
import { createTokenizer, wrapTokenizer } from '../../../src/model/tokenizer.ts';
import type { TokenizerLike } from '../../../src/types.ts';
import {
  bytesOf,
  decodeByBytes,
  expectExactStream,
  type Json,
  llama2Style,
  stories,
  storiesConfig,
  streamed,
  tokenizer,
} from './tokenizers.ts';

describe('encode and decode', () => {
  test('known ids: BOS, then the tokens of a word', () => {
    const ids = tokenizer.encode('Once upon a time');
    expect(ids[0]).toBe(0);
    expect(ids.slice(1).map((id) => tokenizer.tokenOf(id))).toEqual(['Once', 'Ġupon', 'Ġa', 'Ġtime']);
    expect(tokenizer.decode(ids)).toBe('Once upon a time');
  });

  test.each([
    '',
    ' ',
    'Lily’s “cat” — 1,000 cats.',
    '漢字かな交じり文',
    '👩‍👩‍👧‍👦 🇩🇪 👍🏽 é e\u0301',
    'a\u0000b\uFEFF\r\n\t',
  ])('%j survives', (text) => {
    expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
  });

  test('a byte order mark spelled in bytes survives', () => {
    const llama = llama2Style();
    const ids = llama.encode('a\uFEFFb');
    expect(ids).toContain(llama.idOf('<0xEF>'));
    expect(llama.decode(ids)).toBe('a\uFEFFb');
  });

  test.each([
    [true, ['a', 'Ġ', 'Â½', '1', '2', 'Â½', 'Ġ', 'Â', '²', 'b']],
    [false, ['a', 'Ġ', 'Â½', '12', 'Â½', 'Ġ', 'Â', '²', 'b']],
  ])('Digits cut at every Unicode number, individually: %j', (individually, expected) => {
    const tokens = ['a', 'b', 'Ġ', 'Â', '½', '²', '1', '2', 'ĠÂ', 'Â½', '12', '²b'];
    const json = {
      model: {
        type: 'BPE',
        vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
        merges: ['Ġ Â', 'Â ½', '1 2', '² b'],
      },
      pre_tokenizer: {
        type: 'Sequence',
        pretokenizers: [
          { type: 'Digits', individual_digits: individually },
          { type: 'ByteLevel', add_prefix_space: false, use_regex: false },
        ],
      },
      decoder: { type: 'ByteLevel' },
    };
    const digits = createTokenizer(json, null, 'x');
    const ids = digits.encode('a ½12½ ²b');
    expect(ids.map((id) => digits.tokenOf(id))).toEqual(expected);
    expect(digits.decode(ids)).toBe('a ½12½ ²b');
  });

  test('spaces are never "cleaned up"', () => {
    const tidy = createTokenizer(stories(), { ...storiesConfig(), clean_up_tokenization_spaces: true }, 'x');
    expect(tidy.decode(tidy.encode("I do n't know , you 're right ."))).toBe("I do n't know , you 're right .");
  });

  test('decode agrees with the bytes of the vocabulary', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 2047 }), { maxLength: 60 }), (tokens) => {
        expect(tokenizer.decode(tokens)).toBe(decodeByBytes(tokens));
      }),
      { numRuns: 300 },
    );
  });

  test('special tokens and ids without a token decode to nothing', () => {
    const once = tokenizer.idOf('Once')!;
    expect(tokenizer.decode([0, once, 1, 5000, -1, 0])).toBe('Once');
    expect(tokenizer.decode([])).toBe('');
    expect(tokenizer.decode([0])).toBe('');
  });

  test('tables', () => {
    expect(tokenizer).toMatchObject({ vocabSize: 2048, baseVocabSize: 2048, hasTable: true });
    expect(tokenizer.idOf('<|endoftext|>')).toBe(0);
    expect(tokenizer.idOf('no such token')).toBeUndefined();
    expect(tokenizer.tokenOf(2048)).toBeUndefined();
    expect(tokenizer.textOf(0)).toBe('<|endoftext|>');
    expect(tokenizer.textOf(2048)).toBe('');
  });
});

describe('BOS', () => {
  const BOS = '<|endoftext|>';
  const bare = (json: Json = {}): Json => ({ ...stories(), post_processor: null, ...json });
  const leading = (json: Json, config: Json | null, text = 'Once') => {
    const ids = createTokenizer(json, config, 'x').encode(text);
    return ids.slice(0, ids.indexOf(tokenizer.idOf('Once')!));
  };

  test.each<[string, Json, Json | null, number[]]>([
    ['post-processor adds, config wants', stories(), { add_bos_token: true, bos_token: BOS }, [0]],
    ['post-processor adds, config is silent', stories(), { bos_token: BOS }, [0]],
    ['post-processor adds, no config', stories(), null, [0]],
    ['post-processor adds, config forbids', stories(), { add_bos_token: false, bos_token: BOS }, []],
    ['post-processor adds, config wants and names none', stories(), { add_bos_token: true }, [0]],
    ['no post-processor, config wants', bare(), { add_bos_token: true, bos_token: { content: BOS } }, [0]],
    ['no post-processor, config is silent', bare(), { bos_token: BOS }, []],
    ['no post-processor, config forbids', bare(), { add_bos_token: false, bos_token: BOS }, []],
    ['post-processor adds another token', stories(), { add_bos_token: false, bos_token: '<|pad|>' }, [0]],
  ])('%s', (_, json, config, expected) => {
    expect(leading(json, config)).toEqual(expected);
  });

  test('is not doubled when the text begins with it', () => {
    for (const config of [null, { add_bos_token: true, bos_token: BOS }]) {
      expect(leading(stories(), config, `${BOS}Once`)).toEqual([0]);
    }
    expect(leading(bare(), { add_bos_token: true, bos_token: BOS }, `${BOS}Once`)).toEqual([0]);
    // What the text says twice, or says where the config adds none, is the text's own matter.
    expect(leading(stories(), null, `${BOS}${BOS}Once`)).toEqual([0, 0]);
    expect(leading(stories(), { add_bos_token: false, bos_token: BOS }, `${BOS}Once`)).toEqual([0]);
  });

  test('the empty prompt is BOS alone', () => {
    expect(tokenizer.encode('')).toEqual([0]);
  });

  test('a sequence of post-processors, as Llama 3 has it', () => {
    const sequence = { type: 'Sequence', processors: [{ type: 'ByteLevel' }, stories().post_processor] };
    expect(leading({ ...stories(), post_processor: sequence }, null)).toEqual([0]);
  });

  test.each<[Json | null, RegExp]>([
    [{ add_bos_token: true }, /asks for add_bos_token and names no bos_token/],
    [{ add_bos_token: true, bos_token: '<s>' }, /bos_token "<s>" is not in the vocabulary/],
    [{ add_bos_token: 'yes' }, /add_bos_token of tokenizer_config\.json is neither/],
  ])('%j is refused', (config, message) => {
    expect(() => createTokenizer(bare(), config, 'x')).toThrow(ModelFormatError);
    expect(() => createTokenizer(bare(), config, 'x')).toThrow(message);
  });
});

describe('wrapTokenizer', () => {
  /** In the shape of a transformers.js tokenizer: callable, throws on an empty list, one U+FFFD per bad byte. */
  function naive(): TokenizerLike {
    const object = () => {};
    return Object.assign(object, {
      encode: (text: string) => [0, ...bytesOf(text).map((byte) => byte + 1)],
      decode(ids: number[], { skip_special_tokens: skip }: { skip_special_tokens: boolean }) {
        if (ids.length === 0) throw new Error('token_ids must be a non-empty array of integers.');
        const bytes = ids.flatMap((id) => (id === 0 ? (skip ? [] : bytesOf('<s>')) : [id - 1]));
        let text = '';
        for (let i = 0; i < bytes.length; ) {
          const size = bytes[i]! >= 0xf0 ? 4 : bytes[i]! >= 0xe0 ? 3 : bytes[i]! >= 0xc0 ? 2 : 1;
          try {
            text += new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(
              Uint8Array.from(bytes.slice(i, i + size)),
            );
            i += size;
          } catch {
            text += '\uFFFD';
            i++;
          }
        }
        return text;
      },
    });
  }
  const wrapped = wrapTokenizer(naive(), 257);

  test('encodes, decodes and streams', () => {
    expect(wrapped.encode('é')).toEqual([0, 0xc4, 0xaa]);
    expect(wrapped.decode([0, 0xc4, 0xaa])).toBe('é');
    expect(wrapped.decode([])).toBe('');
    expect(wrapped.textOf(0)).toBe('<s>');
    expect(wrapped).toMatchObject({ vocabSize: 257, hasTable: false });
    const { pieces, last } = streamed(wrapped, wrapped.encode('<s>😀你é!'));
    expect(pieces.filter((piece) => piece !== '')).toEqual(['<', 's', '>', '😀', '你', 'é', '!']);
    expect(last).toBe('');
    const [, a, b] = wrapped.encode('é');
    expect(streamed(wrapped, [a!, ...Array<number>(50).fill(0), b!]).pieces.join('')).toBe('é');
    fc.assert(
      fc.property(
        fc.array(fc.oneof(fc.integer({ min: 0, max: 256 }), fc.constantFrom(...wrapped.encode('😀你é'))), {
          maxLength: 80,
        }),
        (ids) => expectExactStream(wrapped, ids),
      ),
      { numRuns: 300 },
    );
  });

  test('a long run of special tokens within a character costs no more per token than text does', () => {
    let decoded = 0;
    const object = naive();
    const counting = wrapTokenizer(
      {
        encode: (text) => object.encode(text),
        decode(ids, options) {
          decoded += ids.length;
          return object.decode(ids, options);
        },
      },
      257,
    );
    const [, a, b] = wrapped.encode('é');
    const tokens = [a!, ...Array<number>(1000).fill(0), b!];
    expect(streamed(counting, tokens).pieces.join('')).toBe('é');
    expect(decoded / tokens.length).toBeLessThan(25);
  });

  test('what is no tokenizer, or returns no ids', () => {
    for (const object of [null, undefined, {}, { encode: () => [] }, 'x']) {
      expect(() => wrapTokenizer(object as unknown as TokenizerLike, 10)).toThrow(InvalidOptionError);
    }
    for (const ids of [[257], [-1], [0.5], [1n], { ids: [1] }, undefined]) {
      const broken = wrapTokenizer({ ...naive(), encode: () => ids as number[], decode: () => '' }, 257);
      expect(() => broken.encode('x')).toThrow(
        /Expected tokenizer\.encode\(text\) to return an array of ids from 0 to 256/,
      );
    }
  });
});

describe('malformed tokenizer.json', () => {
  const edit = (change: (json: Json & { model: Json }) => void) => {
    const json = stories() as Json & { model: Json };
    change(json);
    return json;
  };
  test.each<[string, unknown, RegExp]>([
    ['a list', [], /expected a JSON object/],
    ['null', null, /expected a JSON object/],
    ['no model', {}, /it has no model/],
    ['no vocab', edit(({ model }) => delete model.vocab), /vocab is not an object/],
    ['a list for a vocab', edit(({ model }) => Object.assign(model, { vocab: ['a'] })), /vocab is not an object/],
    ['an empty vocab', edit(({ model }) => Object.assign(model, { vocab: {}, merges: [] })), /vocabulary is empty/],
    ['a negative id', edit(({ model }) => Object.assign(model.vocab as Json, { x: -1 })), /id of token "x" is -1/],
    ['a huge id', edit(({ model }) => Object.assign(model.vocab as Json, { x: 4e9 })), /id of token "x" is 4000000000/],
    ['an id twice', edit(({ model }) => Object.assign(model.vocab as Json, { x: 7 })), /id 7 is given to two tokens/],
    [
      'an id that is a string',
      edit(({ model }) => Object.assign(model.vocab as Json, { x: '7' })),
      /id of token "x" is "7"/,
    ],
    ['no merges', edit(({ model }) => delete model.merges), /merges are not a list/],
    [
      'a merge of three',
      edit(({ model }) => (model.merges as string[]).push('a b c')),
      /entry that is no pair: "a b c"/,
    ],
    ['a merge of numbers', edit(({ model }) => (model.merges as unknown[]).push([1, 2])), /entry that is no pair/],
    [
      'a merge without a token',
      edit(({ model }) => (model.merges as string[]).push('Q Q')),
      /merge of "Q" and "Q" has no token/,
    ],
    [
      'added tokens that are no list',
      edit((json) => Object.assign(json, { added_tokens: {} })),
      /added_tokens is not a list/,
    ],
    [
      'an added token without id',
      edit((json) => (json.added_tokens as unknown[]).push({ content: 'x' })),
      /without a valid id/,
    ],
    [
      'an added token without text',
      edit((json) => (json.added_tokens as unknown[]).push({ id: 5, content: '' })),
      /without a valid id/,
    ],
    [
      'a template with an unknown token',
      edit((json) =>
        Object.assign(json, {
          post_processor: { type: 'TemplateProcessing', single: [{ SpecialToken: { id: '<x>' } }] },
        }),
      ),
      /post_processor adds a token that is not in the vocabulary/,
    ],
    [
      'a template without items',
      edit((json) => Object.assign(json, { post_processor: { type: 'TemplateProcessing' } })),
      /tokenizer/,
    ],
    [
      'a broken regular expression',
      edit((json) => Object.assign(json, { pre_tokenizer: { type: 'Split', pattern: { Regex: '(' } } })),
      /tokenizer/,
    ],
  ])('%s', (_, json, message) => {
    expect(() => createTokenizer(json, null, 'x/tokenizer.json')).toThrow(ModelFormatError);
    expect(() => createTokenizer(json, null, 'x/tokenizer.json')).toThrow(message);
    expect(() => createTokenizer(json, null, 'x/tokenizer.json')).toThrow(
      /^x\/tokenizer\.json is not a valid tokenizer: /,
    );
  });

  test.each([
    edit(({ model }) => Object.assign(model, { type: 'WordLevel' })),
    edit((json) => Object.assign(json, { normalizer: { type: 'Magic' } })),
    edit((json) => Object.assign(json, { decoder: { type: 'Magic' } })),
    edit((json) =>
      Object.assign(json, { model: { type: 'Unigram', vocab: [['a', 0]], unk_id: 0, byte_fallback: true } }),
    ),
  ])('unsupported parts', (json) => {
    expect(() => createTokenizer(json, null, 'x/tokenizer.json')).toThrow(UnsupportedModelError);
    expect(() => createTokenizer(json, null, 'x/tokenizer.json')).toThrow(
      /^x\/tokenizer\.json: .*(WordLevel|Magic|Unigram)/,
    );
  });

  test('absent optional parts, names special in JavaScript, and odd configs are fine', () => {
    const json = edit((all) => {
      for (const key of ['normalizer', 'post_processor', 'added_tokens', 'truncation']) delete all[key];
      const entries = Object.entries(all.model.vocab as Json);
      all.model.vocab = Object.fromEntries([...entries, ['__proto__', 2048], ['constructor', 2049]]);
    });
    const config = { additional_special_tokens: [{ content: 'Once' }, 7], bos_token: null, remove_space: 'x' };
    const opened = createTokenizer(json, config, 'x');
    expect(opened.tokenOf(2048)).toBe('__proto__');
    expect(opened.idOf('constructor')).toBe(2049);
    expect(opened.encode('Once upon')).toEqual([tokenizer.idOf('Once'), tokenizer.idOf('Ġupon')]);
    expect(opened.decode(opened.encode('Once upon'))).toBe(' upon');
  });
});
