/** The option `draft` where it says more of a model than its place. */
import { describe, expect, it } from 'vitest';
import { toDraftOption } from '../../src/draft_options.ts';
import { InvalidOptionError } from '../../src/errors.ts';
import { parseEngineOptions } from '../../src/options.ts';

const parse = (draft: unknown) => parseEngineOptions({ target: 't/', draft });
const tokens = (headTokens: unknown) => ({ model: 'd/', headTokens });

describe('refused, with what was expected, what was got, and what to do', () => {
  const range = 'Expected `draft.headTokens` to be an integer from 1 up, got';
  const remedy = 'It counts ids of the vocabulary; leave it out for all of them.';
  const cases: [string, unknown, string | RegExp][] = [
    ['headTokens 0', tokens(0), `${range} 0. ${remedy}`],
    ['headTokens −1', tokens(-1), `${range} -1. ${remedy}`],
    ['headTokens 0.5', tokens(0.5), `${range} 0.5. ${remedy}`],
    ['headTokens NaN', tokens(Number.NaN), `${range} NaN. ${remedy}`],
    ['headTokens Infinity', tokens(Infinity), `${range} Infinity. ${remedy}`],
    ['headTokens "32768"', tokens('32768'), `${range} the string "32768". ${remedy}`],
    ['headTokens null', tokens(null), `${range} null. ${remedy}`],
    ['headTokens of ids', tokens([1, 2]), `${range} an array of length 2. ${remedy}`],
    [
      'headTokens alone',
      { headTokens: 5 },
      /^Expected `draft.model` to be the URL of a model .*got nothing\. Give it beside `headTokens`\.$/,
    ],
    ['model null', { model: null }, /^Expected `draft.model` to be the URL.*got null\. Pass a string/],
    ['model empty', { model: ' ' }, /^Expected `draft.model` .*got the string " "\./],
    ['a lookup as model', { model: { method: 'ngram' } }, /^Expected `draft.model` .*got a plain object\./],
    ['no files', { model: [] }, /^Expected `draft.model` to have at least one file, got none/],
    ['a draft within', { model: { model: 'd/' } }, /^Expected `draft.model` .*got a plain object\./],
    ['headtokens', { model: 'd/', headtokens: 5 }, 'Unknown option `headtokens`; did you mean `headTokens`?'],
    ['head_tokens', { model: 'd/', head_tokens: 5 }, 'Unknown option `head_tokens`; did you mean `headTokens`?'],
    ['headToken', { model: 'd/', headToken: 5 }, /did you mean `headTokens`\?$/],
    ['draft_vocab_size', { model: 'd/', draft_vocab_size: 5 }, /did you mean `headTokens`\?$/],
    ['Model', { Model: 'd/' }, 'Unknown option `Model`; did you mean `model`?'],
    [
      'another key',
      { model: 'd/', banana: 5 },
      'Unknown option `banana` of draft. Expected one of `model`, `headTokens`, `method`, `minMatch`, `maxMatch`.',
    ],
    [
      'model and lookup',
      { model: 'd/', method: 'ngram' },
      'Expected `draft` to be a model or a lookup, got `model` of the one and `method` of the other. Leave one out.',
    ],
    ['a lookup with headTokens', { method: 'ngram', headTokens: 5 }, /got `headTokens` of the one and `method` of/],
    ['a model with minMatch', { model: 'd/', minMatch: 2 }, /got `model` of the one and `minMatch` of the other/],
    ['nothing', {}, /^Expected `draft.method` to be 'ngram', got nothing\. A draft model .* alone or as `model`\.$/],
    ['a class instance', new (class Draft {})(), /^Expected `draft` .*\{ model, headTokens \}.*instance of Draft/],
  ];
  it.each(cases)('%s', (_, draft, message) => {
    let thrown: unknown;
    try {
      parse(draft);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(InvalidOptionError);
    if (typeof message === 'string') expect((thrown as Error).message).toBe(message);
    else expect((thrown as Error).message).toMatch(message);
  });

  it('headTokens beside `draft` instead of in it', () => {
    expect(() => parseEngineOptions({ target: 't/', draft: 'd/', headTokens: 5 })).toThrow(
      /^Unknown option `headTokens` of createEngine\(\)\./,
    );
  });
});

describe('accepted', () => {
  it('a model by itself, and with the number of its tokens', () => {
    expect(parse('d/')).toMatchObject({ draft: 'd/', ngram: null, headTokens: null });
    expect(parse({ model: 'd/' })).toEqual(parse('d/'));
    expect(parse({ model: 'd/', headTokens: undefined })).toEqual(parse('d/'));
    expect(parse(tokens(1))).toMatchObject({ draft: 'd/', ngram: null, headTokens: 1 });
    expect(parse(tokens(Number.MAX_SAFE_INTEGER)).headTokens).toBe(Number.MAX_SAFE_INTEGER);
  });

  it('a model in any of the places that `draft` takes', () => {
    const config = new File(['{}'], 'config.json');
    const handle = { kind: 'file', name: 'd.gguf', getFile: async () => config };
    const places: [unknown, unknown][] = [
      ['owner/name@main', 'owner/name@main'],
      [config.slice(), expect.any(Blob)],
      [[config], [config]],
      [{ length: 1, item: () => config, 0: config }, [config]],
      [handle, handle],
    ];
    for (const [model, draft] of places) {
      const parsed = parse({ model, headTokens: 9 });
      expect(parsed).toMatchObject({ ngram: null, headTokens: 9 });
      expect(parsed.draft).toEqual(draft);
    }
  });

  it('each key is read once', () => {
    let reads = 0;
    const draft = {
      model: 'd/',
      get headTokens() {
        reads += 1;
        return reads;
      },
    };
    expect(parse(draft).headTokens).toBe(1);
    expect(reads).toBe(1);
  });

  it('what was parsed can be written as an option again, crosses to a worker, and is parsed as the same', () => {
    const given = { model: 'd/', headTokens: 32768 };
    expect(toDraftOption(parse(given))).toEqual(given);
    expect(toDraftOption(parse({ model: 'd/' }))).toBe('d/');
    for (const draft of [given, 'd/', null, { method: 'ngram' }]) {
      const parsed = parse(draft);
      expect(parse(structuredClone(toDraftOption(parsed)))).toEqual(parsed);
    }
  });
});
