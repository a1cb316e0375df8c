import { describe, expect, it } from 'vitest';
import { toDraftOption } from '../../src/draft_options.ts';
import { InvalidOptionError } from '../../src/errors.ts';
import { type GenerateFacts, parseEngineOptions, parseGenerateOptions, parsePrompt } from '../../src/options.ts';

class Opts {
  maxNewTokens = 5;
}
const throwing = (key: string, error: unknown = new Error('boom')): object =>
  Object.defineProperty({}, key, {
    enumerable: true,
    get() {
      throw error;
    },
  });
const unprintable = {
  toString() {
    throw new Error('no');
  },
};
const revoked = (): unknown => {
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  return proxy;
};
const facts = (hasDraft: boolean): GenerateFacts => ({
  drafter: hasDraft ? 'model' : null,
  vocabSize: 100,
  eosTokenIds: [0],
});
const engine = (options: object): (() => unknown) => {
  return () => parseEngineOptions({ target: 'models/t/', ...options });
};
const generate =
  (options: unknown, hasDraft = true): (() => unknown) =>
  () =>
    parseGenerateOptions(options, facts(hasDraft));
const prompt =
  (raw: unknown): (() => unknown) =>
  () =>
    parsePrompt(raw, { vocabSize: 100, contextLength: 8 });

describe('refused, with what was expected, what was got, and what to do', () => {
  const k = 'Expected `draftLength` to be an integer from 0 to 7, got';
  const n = 'Expected `maxNewTokens` to be an integer from 1 up, got';
  const remedyN = 'To generate until the context is full, pass the context length.';
  const cases: [string, () => unknown, string | RegExp][] = [
    // draftLength
    ['draftLength 9', generate({ draftLength: 9 }), `${k} 9. Or pass 'auto'.`],
    ['draftLength 8', generate({ draftLength: 8 }), `${k} 8. Or pass 'auto'.`],
    ['draftLength −1', generate({ draftLength: -1 }), `${k} -1. Or pass 'auto'.`],
    ['draftLength 2.5', generate({ draftLength: 2.5 }), `${k} 2.5. Or pass 'auto'.`],
    ['draftLength NaN', generate({ draftLength: Number.NaN }), `${k} NaN. Or pass 'auto'.`],
    ['draftLength Infinity', generate({ draftLength: Infinity }), `${k} Infinity. Or pass 'auto'.`],
    ['draftLength −Infinity', generate({ draftLength: -Infinity }), `${k} -Infinity. Or pass 'auto'.`],
    ['draftLength "3"', generate({ draftLength: '3' }), `${k} the string "3". Or pass 'auto'.`],
    ['draftLength "Auto"', generate({ draftLength: 'Auto' }), `${k} the string "Auto". Or pass 'auto'.`],
    ['draftLength 3n', generate({ draftLength: 3n }), `${k} the BigInt 3n. Or pass 'auto'.`],
    ['draftLength null', generate({ draftLength: null }), `${k} null. Or pass 'auto'.`],
    ['draftLength true', generate({ draftLength: true }), `${k} true. Or pass 'auto'.`],
    ['draftLength [3]', generate({ draftLength: [3] }), `${k} an array of length 1. Or pass 'auto'.`],
    ['draftLength {}', generate({ draftLength: {} }), `${k} a plain object. Or pass 'auto'.`],
    ['draftLength symbol', generate({ draftLength: Symbol('3') }), `${k} a symbol. Or pass 'auto'.`],
    ['draftLength function', generate({ draftLength: () => 3 }), `${k} a function. Or pass 'auto'.`],
    ['draftLength Number', generate({ draftLength: Object(3) }), `${k} an instance of Number. Or pass 'auto'.`],
    [
      'draftLength revoked proxy',
      generate({ draftLength: revoked() }),
      `${k} an object that cannot be read. Or pass 'auto'.`,
    ],
    [
      'draftLength without a draft',
      generate({ draftLength: 3 }, false),
      'Expected `draftLength` to be 0, as this engine drafts nothing, got 3. Give `draft` to createEngine(), or leave `draftLength` out.',
    ],
    // priority
    [
      'priority 0.5',
      generate({ priority: 0.5 }),
      /`priority` to be an integer from -1000000 to 1000000, got 0\.5\. Of/,
    ],
    ['priority "high"', generate({ priority: 'high' }), /`priority`.*got the string "high"/],
    ['priority 1000001', generate({ priority: 1_000_001 }), /`priority`.*got 1000001/],
    // maxNewTokens
    ['maxNewTokens 0', generate({ maxNewTokens: 0 }), `${n} 0. ${remedyN}`],
    ['maxNewTokens −0', generate({ maxNewTokens: -0 }), `${n} -0. ${remedyN}`],
    ['maxNewTokens Infinity', generate({ maxNewTokens: Infinity }), `${n} Infinity. ${remedyN}`],
    ['maxNewTokens 2⁵³', generate({ maxNewTokens: 2 ** 53 }), `${n} 9007199254740992. ${remedyN}`],
    ['maxNewTokens ""', generate({ maxNewTokens: '' }), `${n} the string "". ${remedyN}`],
    // signal
    ['signal null', generate({ signal: null }), /^Expected `signal` to be an AbortSignal, got null\. Pass/],
    ['signal {}', generate({ signal: {} }), /^Expected `signal` to be an AbortSignal, got a plain object\./],
    ['the controller', generate({ signal: new AbortController() }), /got an instance of AbortController\. Pass the `s/],
    ['signal that throws', generate({ signal: throwing('aborted') }), /^Expected `signal` to be readable.*boom/],
    // the options object
    [
      'null',
      generate(null),
      /^Expected the options of generate\(\) to be a plain object, got null\. Pass options as \{/,
    ],
    ['a number', generate(100), /got 100\. Pass options as \{ maxNewTokens: 100 \}\.$/],
    ['a string', generate('x'), /plain object, got the string "x"\./],
    ['a long string', generate('x'.repeat(500)), /got the string "x{60}…"\./],
    ['an array', generate([]), /plain object, got an array of length 0\./],
    ['a class instance', generate(new Opts()), /plain object, got an instance of Opts\./],
    ['a Map', generate(new Map()), /plain object, got an instance of Map\./],
    ['an inheriting object', generate(Object.create({ maxNewTokens: 3 })), /plain object, got an instance of Object/],
    ['a function', generate(() => {}), /plain object, got a function\./],
    ['a getter that throws', generate(throwing('maxNewTokens')), /^Expected `maxNewTokens` to be readable.*: boom\./],
    [
      'a getter that throws a string',
      generate(throwing('draftLength', 'pow')),
      /`draftLength` to be readable.*: pow\./,
    ],
    ['a getter that throws the unprintable', generate(throwing('draftLength', unprintable)), /reading it threw\. Pass/],
    ['a revoked proxy', generate(revoked()), /^Expected the options of generate\(\) to be readable/],
    [
      'a proxy that throws',
      generate(
        new Proxy(
          {},
          {
            ownKeys() {
              throw new TypeError('trap');
            },
          },
        ),
      ),
      /options of generate\(\) to be readable, but reading it threw: trap\./,
    ],
    ['createEngine of a string', () => parseEngineOptions('t/'), /got the string "t\/"\. Pass options as \{ target: /],
    ['createEngine of nothing', () => parseEngineOptions(undefined), /plain object, got nothing\./],
    // target and draft
    [
      'no target',
      () => parseEngineOptions({}),
      /^Expected `target` to be the URL of a model folder, a Hugging Face .*got nothing\. Pass for example/,
    ],
    [
      'empty target',
      engine({ target: ' ' }),
      /^Expected `target` to be the URL of a model folder, .*got the string " "\. Pass a string/,
    ],
    ['null target', engine({ target: null }), /^Expected `target` .*got null\./],
    [
      'a URL object',
      engine({ target: new URL('https://a/b/') }),
      /`target`.*got an instance of URL\. Pass a string \(of a URL its `href`\)/,
    ],
    ['a draft object', engine({ draft: { url: 'x' } }), /`url` of draft.*`method`, `minMatch`, `maxMatch`/],
    ['another method', engine({ draft: { method: 'eagle' } }), /`draft.method` to be 'ngram', got the string "eagle"/],
    [
      'minMatch 0',
      engine({ draft: { method: 'ngram', minMatch: 0 } }),
      /`minMatch` to be an integer from 1 to 64, got 0/,
    ],
    [
      'maxMatch below minMatch',
      engine({ draft: { method: 'ngram', minMatch: 5, maxMatch: 3 } }),
      /`draft.maxMatch` to be at least `minMatch` \(5\), got 3/,
    ],
    ['draft false', engine({ draft: false }), /`draft`.*got false\./],
    ['draft empty', engine({ draft: '' }), /`draft`.*got the string ""\./],
    // other engine options
    ['contextLength 1', engine({ contextLength: 1 }), /`contextLength` to be an integer from 2 up, got 1\. It holds/],
    ['contextLength "4096"', engine({ contextLength: '4096' }), /`contextLength`.*got the string "4096"\./],
    [
      'roundsInFlight 1',
      engine({ roundsInFlight: 1 }),
      'Expected `roundsInFlight` to be an integer from 2 to 4, got 1.',
    ],
    [
      'roundsInFlight 5',
      engine({ roundsInFlight: 5 }),
      'Expected `roundsInFlight` to be an integer from 2 to 4, got 5.',
    ],
    ['modelName ""', engine({ modelName: '' }), 'Expected `modelName` to be a name, not empty, got the string "".'],
    ['modelName 7', engine({ modelName: 7 }), 'Expected `modelName` to be a name, not empty, got 7.'],
    [
      'prefix with a dash',
      engine({ metricsPrefix: 'my-app:' }),
      /`metricsPrefix`.*got the string "my-app:"\. For example/,
    ],
    ['prefix with a digit first', engine({ metricsPrefix: '1a' }), /`metricsPrefix`.*no digit first/],
    ['prefix with a newline', engine({ metricsPrefix: 'a\n' }), /`metricsPrefix`.*got the string "a\\n"/],
    ['prefix null', engine({ metricsPrefix: null }), /`metricsPrefix`.*got null\./],
    ['cache "yes"', engine({ cache: 'yes' }), 'Expected `cache` to be true or false, got the string "yes".'],
    ['logMetrics 1', engine({ logMetrics: 1 }), 'Expected `logMetrics` to be true or false, got 1.'],
    ['logMetrics null', engine({ logMetrics: null }), 'Expected `logMetrics` to be true or false, got null.'],
    [
      'onProgress null',
      engine({ onProgress: null }),
      /^Expected `onProgress` to be a function, got null\. Leave it out/,
    ],
    ['onProgress object', engine({ onProgress: {} }), /^Expected `onProgress` to be a function, got a plain object\./],
    ['engine signal', engine({ signal: 'x' }), /^Expected `signal` to be an AbortSignal, got the string "x"\./],
    // unknown options
    [
      'max_new_tokens',
      generate({ max_new_tokens: 5 }),
      'Unknown option `max_new_tokens`; did you mean `maxNewTokens`?',
    ],
    ['max-new-tokens', generate({ 'max-new-tokens': 5 }), /did you mean `maxNewTokens`\?$/],
    ['MaxNewTokens', generate({ MaxNewTokens: 5 }), /did you mean `maxNewTokens`\?$/],
    ['maxNewToken', generate({ maxNewToken: 5 }), /did you mean `maxNewTokens`\?$/],
    ['max_tokens', generate({ max_tokens: 5 }), 'Unknown option `max_tokens`; did you mean `maxNewTokens`?'],
    ['n_predict', generate({ n_predict: 5 }), /did you mean `maxNewTokens`\?$/],
    ['num_speculative_tokens', generate({ num_speculative_tokens: 5 }), /did you mean `draftLength`\?$/],
    ['k', generate({ k: 3 }), 'Unknown option `k`; did you mean `draftLength`?'],
    ['spec_num_steps', generate({ spec_num_steps: 3 }), /did you mean `draftLength`\?$/],
    ['draftLenght', generate({ draftLenght: 3 }), 'Unknown option `draftLenght`; did you mean `draftLength`?'],
    ['sginal', generate({ sginal: 3 }), /did you mean `signal`\?$/],
    ['an unknown key of value undefined', generate({ k: undefined }), /did you mean `draftLength`\?$/],
    [
      'draft in generate',
      generate({ draft: 'x' }),
      'Unknown option `draft` of generate(): `draft` is an option of createEngine().',
    ],
    ['draft_model', engine({ draft_model: 'x' }), 'Unknown option `draft_model`; did you mean `draft`?'],
    ['model', engine({ model: 'x' }), 'Unknown option `model`; did you mean `target`?'],
    ['on_progress', engine({ on_progress: 1 }), /did you mean `onProgress`\?$/],
    [
      'draftLength in createEngine',
      engine({ draftLength: 3 }),
      'Unknown option `draftLength` of createEngine(): `draftLength` is an option of generate().',
    ],
    [
      'worker where it is none',
      engine({ worker: 1 }),
      /^Unknown option `worker` of createEngine\(\)\. Expected one of `target`, /,
    ],
    [
      'a misspelt extra key',
      () => parseEngineOptions({ target: 't', wroker: 1 }, ['worker']),
      /did you mean `worker`\?$/,
    ],
    [
      'something else',
      generate({ banana: 1 }),
      /^Unknown option `banana` of generate\(\)\. Expected one of `maxNewTokens`, .*`topP`, .*, `signal`\.$/,
    ],
    ['constructor', generate({ constructor: 1 }), /^Unknown option `constructor` of generate\(\)\./],
    ['own __proto__', generate(JSON.parse('{"__proto__": 1}')), /^Unknown option `__proto__` of generate\(\)\./],
    ['a symbol key', generate({ [Symbol('s')]: 1 }), /^Unknown option `Symbol\(s\)` of generate\(\)\./],
    ['a very long key', generate({ ['x'.repeat(100_000)]: 1 }), /^Unknown option `x{64}…` of/],
    ['an unknown key whose getter throws', generate(throwing('banana')), /^Unknown option `banana`/],
    // prompt
    [
      'no prompt',
      prompt(undefined),
      'Expected `prompt` to be a string or an array of token ids, got nothing. Pass one of the two.',
    ],
    ['prompt null', prompt(null), /got null\./],
    ['prompt number', prompt(5), /got 5\./],
    ['prompt String', prompt(Object('a')), /got an instance of String\./],
    [
      'prompt typed array',
      prompt(new Uint32Array([1])),
      /got an instance of Uint32Array\. Convert it with Array\.from\(…\)\.$/,
    ],
    ['prompt BigInt64Array', prompt(new BigInt64Array(1)), /got an instance of BigInt64Array\. Convert/],
    ['prompt of messages', prompt({ messages: [] }), /got a plain object\./],
    ['empty array', prompt([]), /^Expected `prompt` to have at least 1 token, got 0\. Pass some text/],
    [
      'full context',
      prompt(Array(8).fill(1)),
      /^Expected `prompt` to have at most 7 tokens \(a context of 8, less one.*\), got 8\. Shorten it, or raise `contextLength`/,
    ],
    [
      'id = vocabSize',
      prompt([0, 100]),
      'Expected `prompt[1]` to be a token id from 0 to 99, got 100. Use the tokenizer of the target model.',
    ],
    ['id −1', prompt([-1]), /^Expected `prompt\[0\]`.*got -1\./],
    ['id 1.5', prompt([1.5]), /got 1\.5\./],
    ['id NaN', prompt([Number.NaN]), /got NaN\./],
    ['id "1"', prompt(['1']), /got the string "1"\./],
    ['id 1n', prompt([1n]), /got the BigInt 1n\./],
    ['a hole', prompt(Object.assign(Array(3), { 0: 1, 2: 2 })), /^Expected `prompt\[1\]`.*got nothing\./],
    ['nested', prompt([[1]]), /^Expected `prompt\[0\]`.*got an array of length 1\./],
    [
      'prompt that throws',
      prompt(
        Object.defineProperty([1], 0, {
          get: () => {
            throw new Error('boom');
          },
        }),
      ),
      /^Expected `prompt` to be readable.*boom/,
    ],
    ['revoked proxy', prompt(revoked()), /^Expected `prompt` to be readable/],
  ];
  it.each(cases)('%s', (_, call, message) => {
    let thrown: unknown;
    try {
      call();
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(InvalidOptionError);
    if (typeof message === 'string') expect((thrown as Error).message).toBe(message);
    else expect((thrown as Error).message).toMatch(message);
  });
});

describe('accepted', () => {
  it('fills in the defaults of createEngine', () => {
    expect(parseEngineOptions({ target: 'https://example.org/models/Tiny%20Target/?v=2#x' })).toEqual({
      target: 'https://example.org/models/Tiny%20Target/?v=2#x',
      draft: null,
      ngram: null,
      headTokens: null,
      contextLength: null,
      dtype: null,
      roundsInFlight: 2,
      maxRunningRequests: 4,
      cache: null,
      modelName: 'Tiny Target',
      metricsPrefix: 'foretoken:',
      logMetrics: false,
      onProgress: null,
      signal: null,
      extras: {},
    });
  });

  it('takes everything that createEngine knows', () => {
    const options = {
      target: 't/',
      draft: 't/',
      contextLength: 2,
      dtype: 'q4' as const,
      roundsInFlight: 4,
      maxRunningRequests: 2,
      cache: false,
      modelName: 'a "name"\n',
      metricsPrefix: 'sglang:',
      logMetrics: true,
      onProgress: () => {},
      signal: new AbortController().signal,
    };
    const worker = { worker: null };
    expect(parseEngineOptions({ ...options, ...worker }, ['worker', 'gpu'])).toEqual({
      ...options,
      ngram: null,
      headTokens: null,
      extras: worker,
    });
  });

  it('treats undefined as not given', () => {
    const none = { draft: undefined, contextLength: undefined, onProgress: undefined, metricsPrefix: undefined };
    expect(parseEngineOptions({ target: 't', ...none, logMetrics: undefined, signal: undefined })).toEqual(
      parseEngineOptions({ target: 't' }),
    );
    expect(parseGenerateOptions({ draftLength: undefined }, facts(true)).draftLength).toBe('auto');
    expect(parseGenerateOptions({ draftLength: 'auto' }, facts(true)).draftLength).toBe('auto');
    expect(parseGenerateOptions({ draftLength: 'auto' }, facts(false)).draftLength).toBe(0);
  });

  it.each([
    ['https://example.org/models/tiny/', 'tiny'],
    ['models/tiny/', 'tiny'],
    ['org/tiny-1.7B', 'tiny-1.7B'],
    ['org/tiny@refs/pr/7', 'tiny'],
    ['https://huggingface.co/org/tiny/resolve/main/', 'tiny'],
    ['https://huggingface.co/org/tiny/resolve/main/tiny%20Q4.gguf?download=true', 'tiny Q4'],
    ['models/tiny.gguf', 'tiny'],
    ['../../tiny/./', 'tiny'],
    ['a/%E0%A4%A', '%E0%A4%A'],
    ['https://example.org/', 'https://example.org/'],
    ['./', './'],
    ['blob:nothing', 'blob:nothing'],
  ])('names %s %s', (target, modelName) => {
    expect(parseEngineOptions({ target }).modelName).toBe(modelName);
  });

  it('takes a lookup as draft, and gives it back as it may be written', () => {
    const parse = (draft: unknown) => parseEngineOptions({ target: 't', draft } as never);
    expect(parse({ method: 'ngram' })).toMatchObject({ draft: null, ngram: { shortest: 2, longest: 4 } });
    expect(parse({ method: 'ngram', minMatch: 6 }).ngram).toEqual({ shortest: 6, longest: 6 });
    const given = { method: 'ngram', minMatch: 3, maxMatch: 9 };
    expect(toDraftOption(parse(given))).toEqual(given);
    expect(toDraftOption(parse('d/'))).toBe('d/');
    expect(toDraftOption(parse(null))).toBe(null);
  });

  it('takes an empty metrics prefix', () => {
    expect(parseEngineOptions({ target: 't', metricsPrefix: '' }).metricsPrefix).toBe('');
  });

  it('fills in the defaults of generate', () => {
    const rest = {
      maxNewTokens: 256,
      sampling: {
        temperature: 0,
        topK: 0,
        topP: 1,
        minP: 0,
        seed: null,
        repetitionPenalty: 1,
        presencePenalty: 0,
        frequencyPenalty: 0,
        logitBias: [],
        minNewTokens: 0,
      },
      stop: [],
      stopTokenIds: [],
      ignoreEos: false,
      stopTokens: [0],
      logprobs: false,
      topLogprobs: 0,
      priority: 0,
      signal: null,
    };
    expect(parseGenerateOptions(undefined, facts(true))).toEqual({ ...rest, draftLength: 'auto' });
    expect(parseGenerateOptions({}, facts(false))).toEqual({ ...rest, draftLength: 0 });
    expect(parseGenerateOptions({ draftLength: 0 }, facts(false))).toEqual({ ...rest, draftLength: 0 });
  });

  it('makes 0 of −0', () => {
    expect(Object.is(parseGenerateOptions({ draftLength: -0 }, facts(false)).draftLength, 0)).toBe(true);
    const [token] = parsePrompt([-0], { vocabSize: 1, contextLength: 2 }) as number[];
    expect(Object.is(token, 0)).toBe(true);
  });

  it.each([0, 1, 2, 3, 4, 5, 6, 7])('takes draftLength %i', (draftLength) => {
    expect(parseGenerateOptions({ draftLength }, facts(true)).draftLength).toBe(draftLength);
  });

  it('takes objects without a prototype, of another realm, frozen, and proxies', async () => {
    const { runInNewContext } = await import('node:vm');
    const bare = Object.assign(Object.create(null), { maxNewTokens: 7 });
    const foreign: unknown = runInNewContext('({ maxNewTokens: 7 })');
    for (const options of [bare, foreign, Object.freeze({ maxNewTokens: 7 }), new Proxy({ maxNewTokens: 7 }, {})]) {
      expect(parseGenerateOptions(options, facts(true)).maxNewTokens).toBe(7);
    }
  });

  it('reads each option once', () => {
    let reads = 0;
    const options = {
      get draftLength() {
        reads += 1;
        return reads;
      },
    };
    expect(parseGenerateOptions(options, facts(true)).draftLength).toBe(1);
    expect(reads).toBe(1);
  });

  it('takes a signal by its shape', () => {
    const signal = { aborted: false, addEventListener: () => {}, removeEventListener: () => {} };
    expect(parseGenerateOptions({ signal }, facts(true)).signal).toBe(signal);
  });

  it('takes prompts as they are, and copies token ids', () => {
    const facts = { vocabSize: 100, contextLength: 8 };
    expect(parsePrompt('', facts)).toBe('');
    expect(parsePrompt('Once \ud800', facts)).toBe('Once \ud800');
    const tokens = [0, 99, 1, 1, 1, 1, 1];
    const checked = parsePrompt(tokens, facts);
    expect(checked).toEqual(tokens);
    expect(checked).not.toBe(tokens);
    expect(parsePrompt(new Proxy([5], {}), facts)).toEqual([5]);
    expect(parsePrompt(Object.freeze([5]), facts)).toEqual([5]);
  });
});
