import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DeviceError } from '../../../src/errors.ts';
import {
  LOGPROBS_BYTES,
  LOGPROBS_ROW_WORDS,
  parseLogprobs,
  type TokenIdLogprob,
} from '../../../src/speculative/logprobs.ts';
import { RECORD_WORDS } from '../../../src/speculative/record.ts';
import { decode } from './records.ts';
import { encodeLogprobs } from './scripted_batch.ts';

const record = decode(3, 2, { tokens: [10, 11, 12] });
const row = (token: number, logprob: number, top: [token: number, logprob: number][] = []): TokenIdLogprob => ({
  token,
  logprob,
  top: top.map(([id, value]) => ({ token: id, logprob: value })),
});
const rows = [
  row(10, -0.5, [
    [10, -0.5],
    [7, -1.25],
    [3, -2],
  ]),
  row(11, -4, [
    [0, -0.25],
    [1, -0.25],
    [2, -8],
  ]),
  row(12, 0, [[12, 0]]),
];

/** The words of `rows`, changed in one place. */
function changed(at: number, change: { bits?: number; value?: number }): Uint32Array {
  const words = encodeLogprobs(rows);
  if (change.bits !== undefined) words[at] = change.bits;
  if (change.value !== undefined) new Float32Array(words.buffer)[at] = change.value;
  return words;
}

describe('parseLogprobs', () => {
  it('reads 8 rows of 41 words', () => {
    expect(LOGPROBS_ROW_WORDS).toBe(41);
    expect(LOGPROBS_BYTES).toBe(8 * 41 * 4);
    expect(parseLogprobs(encodeLogprobs(rows), record, 20)).toEqual(rows);
  });

  it('reads behind a record, where its first byte is not the first of the buffer', () => {
    const words = new Uint32Array(RECORD_WORDS + LOGPROBS_BYTES / 4);
    words.set(encodeLogprobs(rows), RECORD_WORDS);
    expect(parseLogprobs(words.subarray(RECORD_WORDS), record, 20)).toEqual(rows);
  });

  it('gives as many alternatives as were asked for, and looks at no others', () => {
    expect(parseLogprobs(encodeLogprobs(rows), record, 0)).toEqual(rows.map((one) => ({ ...one, top: [] })));
    const words = changed(1 + 20 + 2, { value: Number.NaN });
    expect(parseLogprobs(words, record, 2)[0]?.top).toEqual(rows[0]?.top.slice(0, 2));
  });

  it('gives one row per committed token: rows of truncated ones are not looked at', () => {
    const cut = decode(3, 2, { finish: 'stop', committedCount: 1, tokens: [10] });
    expect(parseLogprobs(changed(LOGPROBS_ROW_WORDS, { value: Number.NaN }), cut, 3)).toEqual(rows.slice(0, 1));
  });

  it('looks at nothing in a round without finite logits', () => {
    const noise = new Uint32Array(LOGPROBS_BYTES / 4).fill(0x7fc0_0000);
    expect(parseLogprobs(noise, decode(0, 0, { nonFinite: true }), 20)).toEqual([]);
  });

  it('takes a rounding error above 0 for 0', () => {
    expect(parseLogprobs(changed(0, { value: 1e-6 }), record, 0)[0]?.logprob).toBe(0);
  });

  const impossible: [name: string, at: number, change: { bits?: number; value?: number }, message: RegExp][] = [
    ['NaN', 0, { value: Number.NaN }, /word 0 of row 0 .*finite number, at most 0, got NaN\./],
    ['−∞', 41, { value: -Infinity }, /word 0 of row 1 .*got -Infinity\./],
    ['∞', 82, { value: Infinity }, /word 0 of row 2 .*got Infinity\./],
    ['a probability of 2', 0, { value: Math.LN2 }, /word 0 of row 0 .*at most 0, got 0\.69/],
    ['NaN of an alternative', 41 + 22, { value: Number.NaN }, /word 22 of row 1 .*got NaN\./],
    ['a rising logprob', 23, { value: -1 }, /word 23 of row 0 .*no more than the one before, got -1\./],
    ['one token twice', 3, { bits: 7 }, /word 3 of row 0 .*a token once, got 7\./],
  ];
  it.each(impossible)('refuses %s', (_, at, change, message) => {
    expect(() => parseLogprobs(changed(at, change), record, 20)).toThrow(DeviceError);
    expect(() => parseLogprobs(changed(at, change), record, 20)).toThrow(message);
  });

  it('refuses the wrong number of words', () => {
    expect(() => parseLogprobs(new Uint32Array(41), record, 0)).toThrow('Expected logprobs of 1312 bytes, got 164.');
    expect(() => parseLogprobs(new Uint32Array(344), record, 0)).toThrow(DeviceError);
  });

  it('gives logprobs within bounds or a DeviceError for any words', () => {
    const bits = fc.oneof(fc.integer({ min: 0, max: 0xffff_ffff }), fc.constantFrom(0, 0xbf80_0000, 0xffff_ffff));
    let parsedCount = 0;
    fc.assert(
      fc.property(fc.array(bits, { minLength: 41, maxLength: 41 }), fc.nat(4), (values, topCount) => {
        const words = new Uint32Array(LOGPROBS_BYTES / 4);
        words.set(values);
        try {
          const [parsed] = parseLogprobs(words, decode(0, 0), topCount);
          parsedCount += 1;
          const logprobs = [parsed!.logprob, ...parsed!.top.map(({ logprob }) => logprob)];
          expect(logprobs.every((logprob) => logprob <= 0 && logprob > -Infinity)).toBe(true);
          expect(parsed!.top.length).toBeLessThanOrEqual(topCount);
        } catch (error) {
          expect(error).toBeInstanceOf(DeviceError);
        }
      }),
      { numRuns: 3000 },
    );
    expect(parsedCount).toBeGreaterThan(300);
  });
});
