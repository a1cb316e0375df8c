import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DeviceError } from '../../../src/errors.ts';
import {
  cutRecord,
  encodeRecord,
  FINISH_CODES,
  FINISH_SHIFT,
  parseRecord,
  RECORD_BYTES,
  RECORD_FIELDS,
  RECORD_FLAGS,
  RECORD_TOKENS,
  RECORD_WORDS,
} from '../../../src/speculative/record.ts';
import { decode, noop, prefill, simulatedRequest } from './records.ts';

const words = (...values: number[]): Uint32Array => {
  const all = new Uint32Array(RECORD_WORDS);
  all.set(values);
  return all;
};

describe('layout', () => {
  it('is 64 bytes in the fixed order', () => {
    expect(RECORD_BYTES).toBe(64);
    expect(RECORD_TOKENS).toBe(8);
    expect(Object.values(RECORD_FIELDS)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8]);
    expect(RECORD_FIELDS.tokens + RECORD_TOKENS).toBe(RECORD_WORDS);
    expect(RECORD_FLAGS).toEqual({ noop: 1, nonFinite: 2, prefill: 4 });
    expect([FINISH_SHIFT, FINISH_CODES]).toEqual([8, { running: 0, stop: 1, length: 2 }]);
  });
});

describe('parseRecord', () => {
  it('reads a verify round cut by a stop token', () => {
    // Slot 2, epoch 41, round 5, finish code 1, 4 drafts, 3 accepted, 2 committed, length 33; words 10.. are leftovers.
    expect(parseRecord(words(2, 41, 5, 1 << 8, 4, 3, 2, 33, 100, 101, 102, 103, 7, 7, 7, 7))).toEqual({
      slot: 2,
      epoch: 41,
      roundIndex: 5,
      phase: 'verify',
      nonFinite: false,
      finish: 'stop',
      draftCount: 4,
      acceptedCount: 3,
      committedCount: 2,
      length: 33,
      tokens: [100, 101],
    });
  });

  it('reads prefill, plain, length and no-op', () => {
    expect(parseRecord(words(0, 1, 0, 4, 0, 0, 1, 6, 9))).toEqual(prefill());
    expect(parseRecord(words(0, 1, 3, 2 << 8, 0, 0, 1, 9, 5))).toMatchObject({ phase: 'plain', finish: 'length' });
    expect(parseRecord(words(0, 1, 9, 1 | (1 << 8), 7, 99, 3, 9, 5))).toEqual(
      noop({ roundIndex: 9, finish: 'stop', length: 9 }),
    );
  });

  it('reads the longest round, ids up to 2³²−1', () => {
    const record = decode(7, 7, { epoch: 2 ** 32 - 1, tokens: Array.from({ length: 8 }, (_, i) => 2 ** 32 - 1 - i) });
    expect(parseRecord(encodeRecord(record))).toEqual(record);
  });

  it('reads a round without finite logits, whatever it committed', () => {
    expect(parseRecord(words(0, 1, 1, 2, 3, 0, 0, 6))).toMatchObject({ nonFinite: true, phase: 'verify', tokens: [] });
    expect(parseRecord(words(0, 1, 0, 6, 0, 0, 1, 6, 5))).toMatchObject({ nonFinite: true, phase: 'prefill' });
  });

  const impossible: [string, number[], RegExp][] = [
    ['an unknown low flag', [0, 1, 1, 8, 0, 0, 1, 9], /word 3 \(flags\).*got 8\./],
    ['an unknown high flag', [0, 1, 1, 2 ** 31, 0, 0, 1, 9], /word 3 \(flags\).*got 2147483648\./],
    ['finish code 3', [0, 1, 1, 3 << 8, 0, 0, 1, 9], /word 3 \(flags\).*finish code/],
    ['finish code 3 in a no-op', [0, 1, 1, 1 | (3 << 8), 0, 0, 0, 9], /word 3 \(flags\).*finish code/],
    ['a prefill that is not round 0', [0, 1, 1, 4, 0, 0, 1, 9], /word 2 \(roundIndex\).*0 in a prefill, got 1/],
    ['a round 0 that is no prefill', [0, 1, 0, 0, 0, 0, 1, 9], /word 2 \(roundIndex\).*1 or more.*got 0/],
    ['8 drafts', [0, 1, 1, 0, 8, 0, 1, 9], /word 4 \(draftCount\).*0 to 7, got 8/],
    ['a prefill with drafts', [0, 1, 0, 4, 1, 0, 1, 9], /word 4 \(draftCount\).*0 in a prefill, got 1/],
    ['more accepted than drafted', [0, 1, 1, 0, 3, 4, 5, 19], /word 5 \(acceptedCount\).*0 to 3 .*got 4/],
    ['nothing committed', [0, 1, 1, 1 << 8, 3, 2, 0, 9], /word 6 \(committedCount\).*1 to 3 .*got 0/],
    ['more committed than accepted + 1', [0, 1, 1, 1 << 8, 3, 2, 4, 9], /word 6 \(committedCount\).*1 to 3 .*got 4/],
    ['fewer committed while running', [0, 1, 1, 0, 3, 2, 2, 9], /word 6 \(committedCount\).*3 .*goes on.*got 2/],
    ['a prefill that committed 2', [0, 1, 0, 4, 0, 0, 2, 9], /word 6 \(committedCount\).*got 2/],
    ['a length without a prompt', [0, 1, 0, 4, 0, 0, 1, 1], /word 7 \(length\).*at least 2 .*got 1/],
    ['a length without a first token', [0, 1, 1, 0, 3, 2, 3, 4], /word 7 \(length\).*at least 5 .*got 4/],
    ['zeros, as an unwritten buffer has', [], /word 2 \(roundIndex\)/],
    ['garbage', Array(16).fill(0xdeadbeef), /word 3 \(flags\)/],
  ];
  it.each(impossible)('refuses %s', (_, values, message) => {
    expect(() => parseRecord(words(...values))).toThrow(DeviceError);
    expect(() => parseRecord(words(...values))).toThrow(message);
  });

  it('refuses the wrong number of words', () => {
    expect(() => parseRecord(new Uint32Array(15))).toThrow('Expected a round record of 16 words, got 15.');
    expect(() => parseRecord(new Uint32Array(32))).toThrow(DeviceError);
  });

  it('is the inverse of encodeRecord for every record of a request', () => {
    fc.assert(
      fc.property(simulatedRequest, ({ records }) => {
        for (const record of records) expect(parseRecord(encodeRecord(record))).toEqual(record);
      }),
      { numRuns: 300 },
    );
  });

  it('gives a record within bounds or a DeviceError for any 16 words', () => {
    const small = fc.oneof(fc.nat(9), fc.nat(), fc.constantFrom(0, 4, 256, 512, 1));
    let parsedCount = 0;
    fc.assert(
      fc.property(fc.array(small, { minLength: 16, maxLength: 16 }), (values) => {
        try {
          const record = parseRecord(Uint32Array.from(values));
          parsedCount += 1;
          expect(record.acceptedCount).toBeLessThanOrEqual(record.draftCount);
          expect(record.committedCount).toBeLessThanOrEqual(record.acceptedCount + 1);
          expect(record.tokens).toHaveLength(record.committedCount);
          expect(record.draftCount).toBeLessThanOrEqual(7);
        } catch (error) {
          expect(error).toBeInstanceOf(DeviceError);
        }
      }),
      { numRuns: 5000 },
    );
    expect(parsedCount).toBeGreaterThan(50);
  });
});

describe('cutRecord', () => {
  it('leaves the tokens up to a stop, and what was accepted as it was', () => {
    const record = decode(5, 3, { length: 40, finish: 'length', tokens: [10, 11, 12, 13] });
    expect(cutRecord(record, 2)).toEqual({
      ...record,
      finish: 'stop',
      committedCount: 2,
      length: 38,
      tokens: [10, 11],
    });
    expect(cutRecord(record, 4)).toEqual({ ...record, finish: 'stop' });
    expect(record.tokens).toEqual([10, 11, 12, 13]);
    expect(parseRecord(encodeRecord(cutRecord(record, 1)))).toEqual(cutRecord(record, 1));
  });
});
