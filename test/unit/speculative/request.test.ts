import fc from 'fast-check';
import { describe, expect, it, vi } from 'vitest';
import { DeviceError } from '../../../src/errors.ts';
import { RECORD_WORDS } from '../../../src/speculative/record.ts';
import type { GenerateOptions } from '../../../src/types.ts';
import { bytesOf, idOfByte, tokenizer } from '../model/tokenizers.ts';
import { checkSums, endOfText, play } from './requests.ts';
import { logprobOf } from './scripted_batch.ts';
import { firstStop, heldLength } from './stop_oracle.ts';

vi.mock('../../../src/gpu/submit.ts', async (importOriginal) => ({
  ...(await importOriginal<typeof import('../../../src/gpu/submit.ts')>()),
  submitPass: (await import('./scripted_batch.ts')).submitPass,
}));

const word = (text: string): number => tokenizer.idOf(text)!;
const filler = word('Ġthe');
/** Tokens of one to three characters, so that a few stop strings are often met, missed and straddled; and half an emoji. */
const vocabulary = ['a', 'b', 'ab', 'ac', 'c', 'ed'].map(word).concat(bytesOf('🐶').slice(0, 2).map(idOfByte));
const round = fc
  .record({ draftCount: fc.nat(7), agree: fc.nat(7) })
  .map(({ draftCount, agree }) => ({ draftCount, acceptedCount: Math.min(draftCount, agree) }));

const randomRequest = fc.record({
  tokens: fc.array(
    fc.oneof(
      { weight: 40, arbitrary: fc.constantFrom(...vocabulary) },
      { weight: 1, arbitrary: fc.constant(endOfText) },
    ),
    { minLength: 1, maxLength: 40, size: 'max' },
  ),
  rounds: fc.array(round, { minLength: 40, maxLength: 40 }),
  roundsInFlight: fc.integer({ min: 2, max: 4 }),
  maxNewTokens: fc.integer({ min: 1, max: 40 }),
  stop: fc.array(fc.string({ unit: fc.constantFrom('a', 'b', 'c', 'd'), minLength: 1, maxLength: 5 }), {
    maxLength: 3,
  }),
  stopTokenIds: fc.constantFrom([], [], [], [], [word('ed')]),
  ignoreEos: fc.boolean(),
  logprobs: fc.boolean(),
});

/** What a request must say, told from its tokens alone: no rounds, no stream. */
function expectedEnd(
  tokens: readonly number[],
  options: Required<Pick<GenerateOptions, 'maxNewTokens'>> & GenerateOptions,
) {
  const stops = [...(options.stop ?? [])];
  const stopTokens = [...(options.stopTokenIds ?? []), ...(options.ignoreEos ? [] : [endOfText])];
  const emitted: number[] = [];
  for (;;) {
    const token = tokens[emitted.length] ?? filler;
    const isStopToken = stopTokens.includes(token);
    const before = tokenizer.decode(emitted);
    emitted.push(token);
    const ends = isStopToken || emitted.length === options.maxNewTokens;
    const whole = isStopToken ? before : tokenizer.decode(emitted);
    // Half a character is no text before the end has come.
    const text = ends ? whole : whole.replace(/\uFFFD{1,3}$/, '');
    const match = firstStop(text, stops);
    if (match !== null) return { text: match.text, emitted, finish: { type: 'stop', matched: match.matched } };
    if (isStopToken) return { text, emitted, finish: { type: 'stop', matched: token } };
    if (ends) return { text, emitted, finish: { type: 'length', length: emitted.length } };
  }
}

describe('random requests', () => {
  it('500 of them: text, tokens, end and sums are as their tokens alone demand', async () => {
    const seen = { string: 0, token: 0, length: 0, truncatedByString: 0, heldBack: 0 };
    await fc.assert(
      fc.asyncProperty(randomRequest, async ({ tokens, rounds, roundsInFlight, ...options }) => {
        const played = await play({ tokens, filler, rounds, roundsInFlight }, options);
        const { result } = played;
        const { text, emitted, finish } = expectedEnd(tokens, options);
        expect({ text: result.text, tokens: result.tokens, finish: result.meta_info.finish_reason }).toEqual({
          text,
          tokens: emitted,
          finish,
        });
        const truncated = checkSums(played);

        // Nothing is shown that may belong to a stop string, and everything else is.
        let shown = '';
        const visible: number[] = [];
        for (const { text: fresh, tokens: more } of played.rounds.slice(0, -1)) {
          shown += fresh;
          visible.push(...more);
          const whole = tokenizer.decode(visible).replace(/\uFFFD{1,3}$/, '');
          const held = heldLength(whole, options.stop);
          if (held > 0) seen.heldBack += 1;
          expect(shown).toBe(whole.slice(0, whole.length - held));
        }

        if (finish.type === 'length') seen.length += 1;
        else if (typeof finish.matched === 'number') seen.token += 1;
        else {
          seen.string += 1;
          if (truncated > 0) seen.truncatedByString += 1;
        }
      }),
      { numRuns: 500 },
    );
    // The generator must reach the cases that this is about.
    for (const [name, count] of Object.entries(seen)) expect(count, name).toBeGreaterThan(20);
  });

  it('the shape of the rounds changes neither text nor end', async () => {
    await fc.assert(
      fc.asyncProperty(randomRequest, fc.array(round, { maxLength: 40 }), async (request, otherRounds) => {
        const { tokens, rounds, roundsInFlight, ...options } = request;
        const one = await play({ tokens, filler, rounds, roundsInFlight }, options);
        const other = await play({ tokens, filler, rounds: otherRounds }, options);
        expect(other.result.text).toBe(one.result.text);
        expect(other.result.tokens).toEqual(one.result.tokens);
        expect(other.result.meta_info.finish_reason).toEqual(one.result.meta_info.finish_reason);
        expect(other.result.logprobs).toEqual(one.result.logprobs);
      }),
      { numRuns: 200 },
    );
  });

  it('aborted at any record: the text is all that was emitted, what was held back included', async () => {
    let heldCount = 0;
    await fc.assert(
      fc.asyncProperty(randomRequest, fc.integer({ min: 1, max: 12 }), async (request, abortAt) => {
        const { tokens, rounds, roundsInFlight, ...options } = request;
        const abort = new AbortController();
        const onRecord = (count: number): void => {
          if (count === abortAt) abort.abort(new Error('enough'));
        };
        const played = await play(
          { tokens, filler, rounds, roundsInFlight, onRecord },
          { ...options, signal: abort.signal },
        );
        const { text, tokens: emitted, meta_info: meta } = played.result;
        if (meta.finish_reason.type !== 'abort') return;
        expect(meta.finish_reason.message).toBe('enough');
        expect(text).toBe(tokenizer.decode(emitted));
        const shown = played.rounds.map((r) => r.text).join('');
        expect(text.startsWith(shown)).toBe(true);
        if (text !== shown) heldCount += 1;
        expect(played.rounds.flatMap((r) => r.tokens)).toEqual(emitted);
        expect(played.metrics.generationTokens).toBe(emitted.length);
      }),
      { numRuns: 500 },
    );
    expect(heldCount).toBeGreaterThan(10);
  });
});

describe('logprobs', () => {
  const tokens = ['a', 'b', 'ab', 'ac', 'c', 'ed', 'a'].map(word);
  const rounds = Array(9).fill({ draftCount: 3, acceptedCount: 2 });
  const script = { tokens, filler, rounds };

  it('are there for each token of each round, when asked for', async () => {
    const { rounds: played, result } = await play(script, { maxNewTokens: 6, logprobs: true, topLogprobs: 20 });
    expect(result.logprobs).toMatchObject(tokens.slice(0, 6).map((token, place) => logprobOf(token, place, 20)));
    expect(played.flatMap((r) => r.logprobs)).toEqual(result.logprobs);
    expect(played.every((r) => r.logprobs?.length === r.tokens.length)).toBe(true);
  });

  it('without alternatives when none were asked for', async () => {
    const { result } = await play(script, { maxNewTokens: 3, logprobs: true });
    expect(result.logprobs).toMatchObject(tokens.slice(0, 3).map((token, place) => logprobOf(token, place, 0)));
  });

  it('are absent otherwise', async () => {
    const { rounds: played, result } = await play(script, { maxNewTokens: 6 });
    expect('logprobs' in result).toBe(false);
    expect(played.some((r) => 'logprobs' in r)).toBe(false);
  });

  it('end where a stop string ends the tokens', async () => {
    const { rounds: played, result } = await play(script, { stop: 'bab', logprobs: true, topLogprobs: 2 });
    expect(result).toMatchObject({ text: 'a', meta_info: { finish_reason: { matched: 'bab' }, completion_tokens: 3 } });
    expect(result.logprobs).toMatchObject(tokens.slice(0, 3).map((token, place) => logprobOf(token, place, 2)));
    expect(played.at(-1)?.logprobs).toHaveLength(2);
  });

  it('tell the text and the bytes of each token and each alternative', async () => {
    const dog = bytesOf('🐶').map(idOfByte);
    const one = { tokens: [word('a'), ...dog, endOfText], filler, rounds: [] };
    const { result } = await play(one, { logprobs: true, topLogprobs: 1 });
    const told = result.logprobs!.map(({ text, bytes, top }) => ({ text, bytes, top: [top[0]?.text, top[0]?.bytes] }));
    expect(told).toEqual([
      { text: 'a', bytes: [97], top: ['a', [97]] },
      ...bytesOf('🐶').map((byte) => ({ text: '\uFFFD', bytes: [byte], top: ['\uFFFD', [byte]] })),
      { text: '<|endoftext|>', bytes: bytesOf('<|endoftext|>'), top: ['<|endoftext|>', bytesOf('<|endoftext|>')] },
    ]);
  });

  it('that are not numbers end the request with a typed error', async () => {
    const damage = (words: Uint32Array): void => {
      words[RECORD_WORDS] = 0x7fc0_0000;
    };
    await expect(play({ ...script, damage }, { logprobs: true })).rejects.toThrow(DeviceError);
  });
});
