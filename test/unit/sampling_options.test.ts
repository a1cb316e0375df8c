import { runInNewContext } from 'node:vm';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { InvalidOptionError } from '../../src/errors.ts';
import { type GenerateFacts, parseGenerateOptions, toGenerateOptions } from '../../src/options.ts';
import { MAX_STOP_TOKENS } from '../../src/sampling_options.ts';
import { stateFields } from '../../src/speculative/sequence.ts';

const facts: GenerateFacts = { drafter: 'model', vocabSize: 100, eosTokenIds: [2, 3] };
const parse = (options: unknown) => parseGenerateOptions(options, facts);

/** The error of these options, or of nothing when there is none. */
function refusal(options: unknown, against = facts): unknown {
  try {
    parseGenerateOptions(options, against);
  } catch (error) {
    return error;
  }
  return undefined;
}

const ids = (count: number): number[] => Array.from({ length: count }, (_, i) => 10 + i);
const throwing = (key: string): object =>
  Object.defineProperty({}, key, {
    enumerable: true,
    get() {
      throw new Error('boom');
    },
  });

describe('refused, with what was expected, what was got, and what to do', () => {
  const range = (name: string, what: string, got: string, remedy = '') =>
    `Expected \`${name}\` to be ${what}, got ${got}.${remedy && ` ${remedy}`}`;
  const off = 'Leave it out to turn it off.';
  const aToken = 'a token id from 0 to 99';
  const use = 'Use the tokenizer of the target model.';
  const cases: [name: string, options: unknown, message: string | RegExp][] = [
    // temperature
    ['temperature −0.1', { temperature: -0.1 }, range('temperature', 'a number from 0 to 100', '-0.1')],
    ['temperature 101', { temperature: 101 }, range('temperature', 'a number from 0 to 100', '101')],
    ['temperature NaN', { temperature: Number.NaN }, range('temperature', 'a number from 0 to 100', 'NaN')],
    ['temperature Infinity', { temperature: Infinity }, range('temperature', 'a number from 0 to 100', 'Infinity')],
    ['temperature "1"', { temperature: '1' }, range('temperature', 'a number from 0 to 100', 'the string "1"')],
    ['temperature null', { temperature: null }, /`temperature`.*got null\./],
    ['temperature [1]', { temperature: [1] }, /`temperature`.*got an array of length 1\./],
    ['temperature Number', { temperature: Object(1) }, /`temperature`.*got an instance of Number\./],
    ['temperature 1n', { temperature: 1n }, /`temperature`.*got the BigInt 1n\./],
    ['temperature that throws', throwing('temperature'), /^Expected `temperature` to be readable.*boom/],
    // topK
    ['topK −1', { topK: -1 }, range('topK', 'an integer from 0 to 4294967295', '-1', off)],
    ['topK 1.5', { topK: 1.5 }, range('topK', 'an integer from 0 to 4294967295', '1.5', off)],
    ['topK 2³²', { topK: 2 ** 32 }, /`topK`.*got 4294967296\./],
    ['topK Infinity', { topK: Infinity }, /`topK`.*got Infinity\./],
    ['topK true', { topK: true }, /`topK`.*got true\./],
    // topP, minP
    ['topP 0', { topP: 0 }, range('topP', 'a number above 0, up to 1', '0', off)],
    ['topP −0', { topP: -0 }, range('topP', 'a number above 0, up to 1', '-0', off)],
    ['topP 1.0001', { topP: 1.0001 }, range('topP', 'a number above 0, up to 1', '1.0001', off)],
    ['topP NaN', { topP: Number.NaN }, /`topP`.*got NaN\./],
    ['topP "0.9"', { topP: '0.9' }, /`topP`.*got the string "0\.9"\./],
    ['minP −0.1', { minP: -0.1 }, range('minP', 'a number from 0 to 1', '-0.1', off)],
    ['minP 1.1', { minP: 1.1 }, range('minP', 'a number from 0 to 1', '1.1', off)],
    // seed
    ['seed −1', { seed: -1 }, /^Expected `seed` to be an integer from 0 to 9007199254740991, got -1\. Leave it out/],
    ['seed 2⁵³', { seed: 2 ** 53 }, /`seed`.*got 9007199254740992\./],
    ['seed 0.5', { seed: 0.5 }, /`seed`.*got 0\.5\./],
    ['seed 1n', { seed: 1n }, /`seed`.*got the BigInt 1n\./],
    ['seed null', { seed: null }, /`seed`.*got null\./],
    // penalties
    [
      'repetitionPenalty 0',
      { repetitionPenalty: 0 },
      range('repetitionPenalty', 'a number from 0.01 to 100', '0', off),
    ],
    ['repetitionPenalty −1', { repetitionPenalty: -1 }, /`repetitionPenalty`.*got -1\./],
    ['repetitionPenalty 1e9', { repetitionPenalty: 1e9 }, /`repetitionPenalty`.*got 1000000000\./],
    ['presencePenalty 2.1', { presencePenalty: 2.1 }, range('presencePenalty', 'a number from -2 to 2', '2.1', off)],
    ['frequencyPenalty −3', { frequencyPenalty: -3 }, range('frequencyPenalty', 'a number from -2 to 2', '-3', off)],
    ['frequencyPenalty NaN', { frequencyPenalty: Number.NaN }, /`frequencyPenalty`.*got NaN\./],
    // logitBias
    [
      'logitBias 5',
      { logitBias: 5 },
      range('logitBias', 'a plain object or a Map from token ids to numbers', '5', 'As in { 198: -100 }.'),
    ],
    ['logitBias null', { logitBias: null }, /`logitBias`.*got null\./],
    ['logitBias of pairs', { logitBias: [[1, 2]] }, /`logitBias`.*got an array of length 1\./],
    ['logitBias WeakMap', { logitBias: new WeakMap() }, /`logitBias`.*got an instance of WeakMap\./],
    ['logitBias with a prototype', { logitBias: Object.create({ 1: 5 }) }, /`logitBias`.*got an instance of Object\./],
    ['logitBias of a word', { logitBias: { the: 5 } }, range('a key of logitBias', aToken, 'the string "the"', use)],
    ['logitBias of 1e1', { logitBias: { '1e1': 5 } }, /`a key of logitBias`.*got the string "1e1"\./],
    ['logitBias of 05', { logitBias: { '05': 5 } }, /`a key of logitBias`.*got the string "05"\./],
    ['logitBias of −1', { logitBias: { '-1': 5 } }, /`a key of logitBias`.*got the string "-1"\./],
    ['logitBias of 1.5', { logitBias: { 1.5: 5 } }, /`a key of logitBias`.*got the string "1\.5"\./],
    ['logitBias of a symbol', { logitBias: { [Symbol('x')]: 5 } }, /`a key of logitBias`.*got a symbol\./],
    ['logitBias past the vocabulary', { logitBias: { 100: 5 } }, range('a key of logitBias', aToken, '100', use)],
    ['logitBias Map "5"', { logitBias: new Map([['5', 5]]) }, /`a key of logitBias`.*got the string "5"\./],
    ['logitBias Map −1', { logitBias: new Map([[-1, 5]]) }, /`a key of logitBias`.*got -1\./],
    ['logitBias Map NaN', { logitBias: new Map([[Number.NaN, 5]]) }, /`a key of logitBias`.*got NaN\./],
    ['bias 101', { logitBias: { 5: 101 } }, range('logitBias[5]', 'a number from -100 to 100', '101')],
    ['bias −Infinity', { logitBias: { 5: -Infinity } }, /`logitBias\[5\]`.*got -Infinity\./],
    ['bias "1"', { logitBias: new Map([[5, '1']]) }, /`logitBias\[5\]`.*got the string "1"\./],
    ['bias undefined', { logitBias: { 5: undefined } }, /`logitBias\[5\]`.*got nothing\./],
    ['bias null', { logitBias: { 5: null } }, /`logitBias\[5\]`.*got null\./],
    ['bias that throws', { logitBias: throwing('5') }, /^Expected `logitBias` to be readable.*boom/],
    [
      'a Map in disguise',
      { logitBias: { [Symbol.toStringTag]: 'Map' } },
      /^Expected `logitBias` to be readable, but reading it threw/,
    ],
    // stop
    [
      'stop ""',
      { stop: '' },
      range('stop', 'a string, not empty', 'the string ""', 'Leave it out to stop at no text.'),
    ],
    ['stop 5', { stop: 5 }, range('stop', 'a string or an array of strings', '5')],
    ['stop null', { stop: null }, /`stop`.*got null\./],
    ['stop RegExp', { stop: /x/ }, /`stop`.*got an instance of RegExp\./],
    ['stop String', { stop: Object('x') }, /`stop`.*got an instance of String\./],
    ['stop Set', { stop: new Set(['x']) }, /`stop`.*got an instance of Set\./],
    [
      'stop with an empty one',
      { stop: ['a', ''] },
      /^Expected `stop\[1\]` to be a string, not empty, got the string ""/,
    ],
    ['stop with a number', { stop: ['a', 5] }, /^Expected `stop\[1\]`.*got 5\./],
    ['stop with a hole', { stop: Object.assign(Array(2), { 0: 'a' }) }, /^Expected `stop\[1\]`.*got nothing\./],
    [
      'stop of 17',
      { stop: Array(17).fill('a') },
      range('stop', 'a string or an array of strings, at most 16', 'an array of length 17'),
    ],
    ['half a pair', { stop: '\ud83d' }, /^Expected `stop` to be made of whole characters, got the string "\\ud83d"\./],
    ['the other half', { stop: ['a\ude00'] }, /^Expected `stop\[0\]` to be made of whole characters/],
    // stopTokenIds, ignoreEos, minNewTokens
    ['stopTokenIds 5', { stopTokenIds: 5 }, range('stopTokenIds', 'an array of token ids', '5')],
    [
      'stopTokenIds typed',
      { stopTokenIds: new Uint32Array([5]) },
      /`stopTokenIds`.*got an instance of Uint32Array\. Convert it with Array\.from/,
    ],
    ['stopTokenIds [100]', { stopTokenIds: [5, 100] }, range('stopTokenIds[1]', aToken, '100', use)],
    ['stopTokenIds [-1]', { stopTokenIds: [-1] }, /`stopTokenIds\[0\]`.*got -1\./],
    ['stopTokenIds ["5"]', { stopTokenIds: ['5'] }, /`stopTokenIds\[0\]`.*got the string "5"\./],
    ['stopTokenIds [1.5]', { stopTokenIds: [1.5] }, /`stopTokenIds\[0\]`.*got 1\.5\./],
    ['stopTokenIds of 17', { stopTokenIds: ids(17) }, /`stopTokenIds`.*at most 16, got an array of length 17\./],
    [
      'stopTokenIds of 15 beside 2 of the model',
      { stopTokenIds: ids(15) },
      'Expected `stopTokenIds` to make at most 16 stop tokens together with the model’s end-of-sequence tokens (2, 3), ' +
        'got 17. Pass fewer, or set `ignoreEos`.',
    ],
    ['stopTokenIds that throw', { stopTokenIds: [].concat(throwing('0') as never) }, /`stopTokenIds\[0\]`/],
    ['ignoreEos 1', { ignoreEos: 1 }, range('ignoreEos', 'true or false', '1')],
    ['ignoreEos null', { ignoreEos: null }, range('ignoreEos', 'true or false', 'null')],
    [
      'minNewTokens above maxNewTokens',
      { minNewTokens: 6, maxNewTokens: 5 },
      range('minNewTokens', 'an integer from 0 to 5', '6', 'It is at most `maxNewTokens`.'),
    ],
    [
      'minNewTokens above the default',
      { minNewTokens: 257 },
      /`minNewTokens` to be an integer from 0 to 256, got 257\./,
    ],
    ['minNewTokens −1', { minNewTokens: -1 }, /`minNewTokens`.*got -1\./],
    // logprobs
    ['logprobs "yes"', { logprobs: 'yes' }, range('logprobs', 'true or false', 'the string "yes"')],
    [
      'logprobs 5',
      { logprobs: 5 },
      range('logprobs', 'true or false', '5', 'Pass `logprobs: true`, and the number as `topLogprobs`.'),
    ],
    ['topLogprobs 21', { logprobs: true, topLogprobs: 21 }, range('topLogprobs', 'an integer from 0 to 20', '21')],
    ['topLogprobs true', { logprobs: true, topLogprobs: true }, /`topLogprobs`.*got true\./],
    [
      'topLogprobs alone',
      { topLogprobs: 3 },
      'Expected `logprobs` to be true, as `topLogprobs` is 3, got nothing. Set `logprobs: true`.',
    ],
    ['topLogprobs without', { logprobs: false, topLogprobs: 1 }, /`logprobs` to be true.*got false\./],
  ];
  it.each(cases)('%s', (_, options, message) => {
    const error = refusal(options);
    expect(error).toBeInstanceOf(InvalidOptionError);
    if (typeof message === 'string') expect((error as Error).message).toBe(message.replaceAll('’', "'"));
    else expect((error as Error).message).toMatch(message);
  });

  const foreign: [foreign: string, ours: string][] = [
    ['top_k', 'topK'],
    ['top-p', 'topP'],
    ['TopP', 'topP'],
    ['min_p', 'minP'],
    ['temp', 'temperature'],
    ['temperatur', 'temperature'],
    ['do_sample', 'temperature'],
    ['sampling_seed', 'seed'],
    ['random_seed', 'seed'],
    ['max_tokens', 'maxNewTokens'],
    ['max_completion_tokens', 'maxNewTokens'],
    ['maxOutputTokens', 'maxNewTokens'],
    ['num_predict', 'maxNewTokens'],
    ['min_tokens', 'minNewTokens'],
    ['min_new_tokens', 'minNewTokens'],
    ['min_length', 'minNewTokens'],
    ['repetition_penalty', 'repetitionPenalty'],
    ['repeat_penalty', 'repetitionPenalty'],
    ['presence_penalty', 'presencePenalty'],
    ['frequency_penalty', 'frequencyPenalty'],
    ['frequncyPenalty', 'frequencyPenalty'],
    ['logit_bias', 'logitBias'],
    ['stop_sequences', 'stop'],
    ['stop_strings', 'stop'],
    ['stopWords', 'stop'],
    ['antiprompt', 'stop'],
    ['stop_token_ids', 'stopTokenIds'],
    ['stop_tokens', 'stopTokenIds'],
    ['eos_token_id', 'stopTokenIds'],
    ['ignore_eos', 'ignoreEos'],
    ['logProbs', 'logprobs'],
    ['return_logprob', 'logprobs'],
    ['n_probs', 'topLogprobs'],
    ['top_logprobs', 'topLogprobs'],
    ['top_logprobs_num', 'topLogprobs'],
  ];
  it.each(foreign)('%s, which is called %s here', (name, ours) => {
    expect((refusal({ [name]: 1 }) as Error).message).toBe(`Unknown option \`${name}\`; did you mean \`${ours}\`?`);
  });
});

describe('accepted', () => {
  it('takes everything', () => {
    expect(
      parse({
        maxNewTokens: 40,
        minNewTokens: 40,
        draftLength: 2,
        temperature: 0.7,
        topK: 40,
        topP: 0.95,
        minP: 0.05,
        seed: 2 ** 53 - 1,
        repetitionPenalty: 1.1,
        presencePenalty: -2,
        frequencyPenalty: 2,
        logitBias: { 7: -100, 0: 0.5 },
        stop: ['\n\n', '😀'],
        stopTokenIds: [7, 3, 7],
        ignoreEos: false,
        logprobs: true,
        topLogprobs: 20,
      }),
    ).toEqual({
      maxNewTokens: 40,
      draftLength: 2,
      sampling: {
        temperature: 0.7,
        topK: 40,
        topP: 0.95,
        minP: 0.05,
        seed: 2 ** 53 - 1,
        repetitionPenalty: 1.1,
        presencePenalty: -2,
        frequencyPenalty: 2,
        logitBias: [
          [0, 0.5],
          [7, -100],
        ],
        minNewTokens: 40,
      },
      stop: ['\n\n', '😀'],
      stopTokenIds: [7, 3],
      ignoreEos: false,
      stopTokens: [2, 3, 7],
      logprobs: true,
      topLogprobs: 20,
      priority: 0,
      signal: null,
    });
  });

  it('takes the ends of every range', () => {
    for (const options of [
      { temperature: 0, topK: 0, topP: 1, minP: 0, seed: 0, repetitionPenalty: 0.01, presencePenalty: -2 },
      { temperature: 100, topK: 2 ** 32 - 1, topP: 1e-9, minP: 1, repetitionPenalty: 100, presencePenalty: 2 },
      { minNewTokens: 0, logprobs: true, topLogprobs: 0, logitBias: { 99: 100, 0: -100 }, stop: [], stopTokenIds: [] },
    ]) {
      expect(refusal(options)).toBeUndefined();
    }
  });

  it.each([
    [0, 0],
    [-0, 0],
    [1e-300, 0],
    [0.99e-4, 0],
    [1e-4, 1e-4],
    [0.001, 0.001],
  ])('temperature %f counts as %f', (given, taken) => {
    expect(parse({ temperature: given }).sampling.temperature).toBe(taken);
  });

  it('makes 0 of −0', () => {
    const { sampling, stopTokenIds } = parse({
      topK: -0,
      minP: -0,
      seed: -0,
      presencePenalty: -0,
      logitBias: new Map([[-0, -0]]),
      stopTokenIds: [-0],
    });
    const zeros = [sampling.topK, sampling.minP, sampling.seed, sampling.presencePenalty, ...stopTokenIds];
    for (const zero of [...zeros, ...sampling.logitBias.flat()]) expect(Object.is(zero, 0)).toBe(true);
  });

  it('stops at the tokens of the model, unless told to ignore them, and at those given, each once', () => {
    expect(parse({}).stopTokens).toEqual([2, 3]);
    expect(parse({ stopTokenIds: [9, 2, 9] }).stopTokens).toEqual([2, 3, 9]);
    expect(parse({ ignoreEos: true }).stopTokens).toEqual([]);
    expect(parse({ ignoreEos: true, stopTokenIds: [3, 9] }).stopTokens).toEqual([3, 9]);
    expect(parse({ stopTokenIds: ids(14) }).stopTokens).toHaveLength(16);
    expect(parse({ stopTokenIds: [2, 3, ...ids(14)] }).stopTokens).toHaveLength(16);
    expect(parse({ ignoreEos: true, stopTokenIds: ids(16) }).stopTokens).toHaveLength(16);
    expect(refusal({ stopTokenIds: [1] }, { ...facts, eosTokenIds: ids(16) })).toBeInstanceOf(InvalidOptionError);
    // The state of a sequence has room for as many.
    expect(stateFields.stopTokens + MAX_STOP_TOKENS).toBe(stateFields.inverseTemperature);
  });

  it('takes one stop string for a list of one', () => {
    expect(parse({ stop: ' ' }).stop).toEqual([' ']);
  });

  it('takes Maps and objects of another realm, frozen, without a prototype', () => {
    for (const logitBias of [
      runInNewContext('new Map([[5, -1]])'),
      runInNewContext('({ 5: -1 })'),
      Object.freeze({ 5: -1 }),
      Object.assign(Object.create(null), { 5: -1 }),
      structuredClone(new Map([[5, -1]])),
    ]) {
      expect(parse({ logitBias }).sampling.logitBias).toEqual([[5, -1]]);
    }
    const stop: unknown = runInNewContext('["a"]');
    expect(parse({ stop }).stop).toEqual(['a']);
  });

  it('takes a Map for what is in it, whatever it says of itself', () => {
    const logitBias = new Map([[5, -1]]);
    logitBias.entries = () => new Map([[6, 1]]).entries();
    logitBias[Symbol.iterator] = logitBias.entries;
    expect(parse({ logitBias }).sampling.logitBias).toEqual([[5, -1]]);
  });

  it('copies what may change later', () => {
    const given = { stop: ['a'], stopTokenIds: [5], logitBias: new Map([[5, 1]]) };
    const parsed = parse(given);
    given.stop.push('b');
    given.stopTokenIds.push(6);
    given.logitBias.set(6, 1);
    expect([parsed.stop, parsed.stopTokenIds, parsed.sampling.logitBias]).toEqual([['a'], [5], [[5, 1]]]);
  });
});

describe('toGenerateOptions', () => {
  const token = fc.nat(99);
  const options = fc.record(
    {
      maxNewTokens: fc.integer({ min: 20, max: 1000 }),
      minNewTokens: fc.nat(20),
      draftLength: fc.nat(7),
      temperature: fc.double({ min: 0, max: 100, noNaN: true }),
      topK: fc.nat(200),
      topP: fc.double({ min: 0, max: 1, minExcluded: true, noNaN: true }),
      minP: fc.double({ min: 0, max: 1, noNaN: true }),
      seed: fc.maxSafeNat(),
      repetitionPenalty: fc.double({ min: 0.01, max: 100, noNaN: true }),
      presencePenalty: fc.double({ min: -2, max: 2, noNaN: true }),
      frequencyPenalty: fc.double({ min: -2, max: 2, noNaN: true }),
      logitBias: fc.oneof(
        fc.dictionary(token.map(String), fc.double({ min: -100, max: 100, noNaN: true })),
        fc.array(fc.tuple(token, fc.double({ min: -100, max: 100, noNaN: true }))).map((pairs) => new Map(pairs)),
      ),
      stop: fc.oneof(
        fc.string({ minLength: 1, unit: 'grapheme' }),
        fc.array(fc.string({ minLength: 1, unit: 'grapheme' }), { maxLength: 16 }),
      ),
      stopTokenIds: fc.array(token, { maxLength: 14 }),
      ignoreEos: fc.boolean(),
      logprobs: fc.constant(true),
      priority: fc.integer({ min: -1_000_000, max: 1_000_000 }),
    },
    { requiredKeys: [] },
  );

  it('is undone by parseGenerateOptions, also behind postMessage', () => {
    fc.assert(
      fc.property(options, (given) => {
        const parsed = parse(given);
        expect(parse(structuredClone(toGenerateOptions(parsed)))).toEqual(parsed);
      }),
      { numRuns: 1000 },
    );
  });

  it('gives no seed where none was given', () => {
    expect('seed' in toGenerateOptions(parse({}))).toBe(false);
    expect(toGenerateOptions(parse({ seed: 0 })).seed).toBe(0);
  });
});

it('any junk is refused by the one error, or comes out within every range', () => {
  const key = fc.constantFrom(
    ...['temperature', 'topK', 'topP', 'minP', 'seed', 'repetitionPenalty', 'presencePenalty', 'frequencyPenalty'],
    ...['logitBias', 'stop', 'stopTokenIds', 'ignoreEos', 'logprobs', 'topLogprobs', 'minNewTokens', 'maxNewTokens'],
  );
  const value = fc.oneof(
    fc.anything({ withBigInt: true, withDate: true, withMap: true, withSet: true, withTypedArray: true }),
    fc.double(),
    fc.integer({ min: -3, max: 120 }),
    fc.boolean(),
    fc.array(fc.oneof(fc.nat(110), fc.string())),
    fc.dictionary(fc.nat(110).map(String), fc.double({ min: -150, max: 150 })),
  );
  let takenCount = 0;
  fc.assert(
    fc.property(fc.dictionary(key, value, { maxKeys: 2 }), (given) => {
      const error = refusal(given);
      if (error !== undefined) {
        expect(error).toBeInstanceOf(InvalidOptionError);
        return;
      }
      takenCount += 1;
      const { sampling, stop, stopTokens, maxNewTokens, topLogprobs, logprobs } = parse(given);
      const { temperature, topP, minP, repetitionPenalty, logitBias, minNewTokens } = sampling;
      expect(temperature === 0 || (temperature >= 1e-4 && temperature <= 100)).toBe(true);
      expect(topP > 0 && topP <= 1 && minP >= 0 && minP <= 1).toBe(true);
      expect(Number.isFinite(Math.fround(1 / repetitionPenalty))).toBe(true);
      expect(logitBias.every(([id, bias]) => id >= 0 && id < 100 && Math.abs(bias) <= 100)).toBe(true);
      expect(new Set(logitBias.map(([id]) => id)).size).toBe(logitBias.length);
      expect(stop.every((text) => text.length > 0)).toBe(true);
      expect(stopTokens.length).toBeLessThanOrEqual(16);
      expect(minNewTokens).toBeLessThanOrEqual(maxNewTokens);
      expect(topLogprobs === 0 || logprobs).toBe(true);
    }),
    { numRuns: 5000 },
  );
  expect(takenCount).toBeGreaterThan(500);
});
