import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type AcceptLimits, accept, countDrafts } from '../../reference/accept.ts';
import { noToken } from '../../reference/argmax.ts';

const roomy: AcceptLimits = { committedLength: 10, maxLength: 100, contextLength: 200, stopTokenIds: [0] };

describe('accept', () => {
  test.each([
    ['nothing agrees: the correction alone', [5, 6, 7], [1, 6, 7, 8], 0, [1]],
    ['the agreement ends at the first difference', [5, 6, 7], [5, 1, 7, 8], 1, [5, 1]],
    ['all agree: the bonus comes on top', [5, 6, 7], [5, 6, 7, 8], 3, [5, 6, 7, 8]],
    ['no drafts: a plain round', [], [9], 0, [9]],
  ])('%s', (_, drafts, targetTokens, acceptedCount, tokens) => {
    const expected = { draftCount: drafts.length, acceptedCount, tokens, finish: null, nonFinite: false };
    expect(accept(drafts, targetTokens, roomy)).toEqual(expected);
  });

  test('a stop token ends the request where it stands; accepted drafts after it still count', () => {
    const result = accept([5, 0, 7], [5, 0, 7, 8], roomy);
    expect(result).toEqual({ draftCount: 3, acceptedCount: 3, tokens: [5, 0], finish: 'stop', nonFinite: false });
  });
  test('a rejected stop token ends nothing', () => {
    expect(accept([0, 5], [4, 5, 6], roomy)).toMatchObject({ acceptedCount: 0, tokens: [4], finish: null });
  });
  test('the length limit truncates, accepted drafts still count', () => {
    const result = accept([5, 6, 7], [5, 6, 7, 8], { ...roomy, maxLength: 12 });
    expect(result).toMatchObject({ draftCount: 3, acceptedCount: 3, tokens: [5, 6], finish: 'length' });
  });
  test('a stop token as the last token allowed is a stop; one beyond the limit is none', () => {
    expect(accept([5], [5, 0], { ...roomy, maxLength: 12 }).finish).toBe('stop');
    expect(accept([5], [5, 0], { ...roomy, maxLength: 11 })).toMatchObject({ tokens: [5], finish: 'length' });
  });
  test('drafts that could commit past the context are not counted', () => {
    const nearEnd = { ...roomy, committedLength: 197, maxLength: 200 };
    expect(accept([5, 6, 7], [5, 6, 7, 8], nearEnd)).toMatchObject({
      draftCount: 2,
      acceptedCount: 2,
      tokens: [5, 6, 7],
      finish: 'length',
    });
    expect(accept([5, 6, 7], [5, 6, 7, 8], { ...nearEnd, committedLength: 199 })).toMatchObject({
      draftCount: 0,
      acceptedCount: 0,
      tokens: [5],
      finish: 'length',
    });
  });
  test('without a finite logit the request ends before that token', () => {
    const result = accept([5, 6], [5, noToken, 7], roomy);
    expect(result).toMatchObject({ acceptedCount: 1, tokens: [5], finish: 'length', nonFinite: true });
    expect(accept([5, 0, 6], [5, 0, noToken, 7], roomy)).toMatchObject({ finish: 'stop', nonFinite: false });
  });
  test('refuses a row count that is not k + 1, and a round without room', () => {
    expect(() => accept([5], [5], roomy)).toThrow('Expected 2 target tokens, got 1');
    expect(() => accept([], [5], { ...roomy, committedLength: 100 })).toThrow(RangeError);
  });

  test('countDrafts', () => {
    expect([0, 3, 7].map((k) => countDrafts(k, 10, 16))).toEqual([0, 3, 5]);
    expect(countDrafts(3, 15, 16)).toBe(0);
  });

  test('commits what the target alone would have said next, whatever the drafts', () => {
    const token = fc.integer({ min: 0, max: 4 });
    const scenario = fc.record({
      // The target's greedy continuation, and drafts from the same few tokens so that prefixes agree often.
      continuation: fc.array(token, { minLength: 8, maxLength: 8 }),
      drafts: fc.array(token, { maxLength: 7 }),
      room: fc.integer({ min: 1, max: 12 }),
      contextRoom: fc.integer({ min: 0, max: 12 }),
    });
    fc.assert(
      fc.property(scenario, ({ continuation, drafts, room, contextRoom }) => {
        const committedLength = 20;
        const contextLength = committedLength + room + contextRoom;
        const maxLength = committedLength + room;
        const limits = { committedLength, maxLength, contextLength, stopTokenIds: [0] };
        // Rows after a wrong draft are conditioned on it, so the target says something else there.
        const firstWrong = drafts.findIndex((draft, i) => draft !== continuation[i]);
        const rows = Array.from({ length: drafts.length + 1 }, (_, i) =>
          firstWrong !== -1 && i > firstWrong ? (continuation[i]! + 1) % 5 : continuation[i]!,
        );
        const result = accept(drafts, rows, limits);
        expect(result.tokens).toEqual(continuation.slice(0, result.tokens.length));
        expect(result.tokens.length).toBeGreaterThanOrEqual(1);
        expect(result.tokens.length).toBeLessThanOrEqual(Math.min(result.acceptedCount + 1, room));
        const counted = drafts.slice(0, result.draftCount);
        const agreeing = counted.findIndex((draft, i) => draft !== continuation[i]);
        expect(result.acceptedCount).toBe(agreeing === -1 ? counted.length : agreeing);
        expect(result.tokens.slice(0, -1)).not.toContain(0);
        if (result.finish === null) expect(result.tokens.length).toBe(result.acceptedCount + 1);
        expect(result.finish === 'stop').toBe(result.tokens.at(-1) === 0);
        if (result.finish === 'length') expect(result.tokens.length).toBe(room);
      }),
      { numRuns: 2000, seed: 1 },
    );
  });
});
