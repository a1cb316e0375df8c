import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createStopSearch } from '../../../src/speculative/stop_strings.ts';
import { firstStop, heldLength } from './stop_oracle.ts';

const text = fc.string({ unit: fc.constantFrom('a', 'b', '🐶', '🐱'), maxLength: 24 });
const stops = fc.array(fc.string({ unit: fc.constantFrom('a', 'b', '🐶'), minLength: 1, maxLength: 5 }), {
  maxLength: 4,
});

/** The text in pieces, cut between characters. */
function cut(whole: string, seeds: readonly number[]): string[] {
  const pieces = [''];
  for (const [i, character] of [...whole].entries()) {
    if ((seeds[i % seeds.length] ?? 0) === 0) pieces.push('');
    pieces[pieces.length - 1] += character;
  }
  return pieces;
}

describe('createStopSearch', () => {
  it('finds what a search of the whole text finds, however the text is cut, and holds back no more than it must', () => {
    let matchCount = 0;
    let heldCount = 0;
    fc.assert(
      fc.property(text, stops, fc.array(fc.nat(2), { minLength: 1, maxLength: 8 }), (whole, list, seeds) => {
        const search = createStopSearch(list);
        const expected = firstStop(whole, list);
        let seen = '';
        let shown = '';
        for (const piece of cut(whole, seeds)) {
          const { released, matched } = search.push(piece);
          seen += piece;
          shown += released;
          if (matched !== null) {
            matchCount += 1;
            expect({ shown, matched }).toEqual({ shown: expected?.text, matched: expected?.matched });
            expect(firstStop(seen, list)).not.toBeNull();
            return;
          }
          expect(firstStop(seen, list)).toBeNull();
          const held = heldLength(seen, list);
          if (held > 0) heldCount += 1;
          expect(shown).toBe(seen.slice(0, seen.length - held));
        }
        expect(expected).toBeNull();
        expect(shown + search.flush()).toBe(whole);
      }),
      { numRuns: 5000 },
    );
    expect(matchCount).toBeGreaterThan(1000);
    expect(heldCount).toBeGreaterThan(1000);
  });

  it('shows everything at once when there is nothing to stop at', () => {
    const search = createStopSearch([]);
    expect(search.push('Once')).toEqual({ released: 'Once', matched: null });
    expect(search.flush()).toBe('');
  });

  it('finds a very long stop string that begins again and again', () => {
    const long = 'a'.repeat(100_000);
    const search = createStopSearch([`${long}b`]);
    expect(search.push(long)).toEqual({ released: '', matched: null });
    for (let i = 0; i < 100; i += 1) expect(search.push('a')).toEqual({ released: 'a', matched: null });
    expect(search.push('b')).toEqual({ released: '', matched: `${long}b` });
  });
});
