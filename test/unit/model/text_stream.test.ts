import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createTextStream } from '../../../src/model/text_stream.ts';
import { bytesOf, bytesOfToken, expectExactStream, idOfByte, llama2Style, streamed, tokenizer } from './tokenizers.ts';

describe('text stream', () => {
  const byteTokens = fc.constantFrom(...[...bytesOfToken].filter(([, b]) => b.some((x) => x > 127)).map(([id]) => id));
  const anyToken = fc.integer({ min: 0, max: 2100 });

  test('random tokens, mixed with bytes that make and break characters', () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(anyToken, byteTokens), { maxLength: 120 }), (tokens) => {
        expectExactStream(tokenizer, tokens);
      }),
      { numRuns: 500 },
    );
  });

  test('random bytes only', () => {
    const byte = fc.oneof(
      fc.integer({ min: 0x80, max: 0xff }),
      fc.constantFrom(0xf0, 0x9f, 0x98, 0x80, 0xe4, 0xbd, 0xa0),
    );
    fc.assert(
      fc.property(fc.array(byte, { maxLength: 100 }), (bytes) => {
        expectExactStream(tokenizer, bytes.map(idOfByte));
      }),
      { numRuns: 300 },
    );
  });

  test('any text, and each piece as early as its bytes allow', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme', maxLength: 40 }), (text) => {
        const tokens = bytesOf(text).map(idOfByte);
        expectExactStream(tokenizer, tokens);
        if (text.includes('\uFFFD')) return;
        const stream = tokenizer.createTextStream();
        const incremental = new TextDecoder('utf-8', { ignoreBOM: true });
        for (const byte of bytesOf(text)) {
          const expected = incremental.decode(Uint8Array.of(byte), { stream: true });
          expect(stream.push(idOfByte(byte))).toBe(expected);
        }
      }),
      { numRuns: 300 },
    );
  });

  test('emoji and CJK come whole', () => {
    const text = 'Hi 👩‍👩‍👧‍👦! 漢字 👍🏽';
    const { pieces, last } = streamed(tokenizer, bytesOf(text).map(idOfByte));
    expect(pieces.filter((piece) => piece !== '')).toEqual([...text]);
    expect(last).toBe('');
  });

  test('a special token between the bytes of a character does not break it', () => {
    const [a, b, c, d] = bytesOf('😀').map(idOfByte) as [number, number, number, number];
    expect(streamed(tokenizer, [a, 0, b, 1, c, 3000, d]).pieces).toEqual(['', '', '', '', '', '', '😀']);
    // More of them than the window is long.
    const { pieces } = streamed(tokenizer, [a, b, ...Array<number>(50).fill(0), c, d]);
    expect(pieces.join('')).toBe('😀');
  });

  test('invalid bytes come out, while they come and at the end', () => {
    const continuation = idOfByte(0x80);
    const { pieces, last } = streamed(tokenizer, Array(100).fill(continuation));
    expect(pieces.slice(3).every((piece) => piece === '\uFFFD')).toBe(true);
    expect(last).toBe('\uFFFD'.repeat(3));
    // Followed by a letter, at once.
    expect(streamed(tokenizer, [continuation, idOfByte(0x41)]).pieces).toEqual(['', '\uFFFDA']);
    // A character cut off by the end.
    expect(streamed(tokenizer, bytesOf('😀').slice(0, 3).map(idOfByte))).toMatchObject({
      pieces: ['', '', ''],
      last: '\uFFFD',
    });
  });

  test('every boundary inside a character, without end', () => {
    // [BD A0 E4], again and again: no prefix of it ever ends with a complete character.
    const tokens = [0xe4, ...Array(40).fill([0xbd, 0xa0, 0xe4]).flat()];
    const glued = (ids: readonly number[]) =>
      new TextDecoder().decode(Uint8Array.from(ids.flatMap((id) => (id === 0 ? [0xe4] : [0xbd, 0xa0, 0xe4]))));
    const stream = createTextStream(glued, () => false);
    const pieces = [stream.push(0), ...Array.from({ length: 40 }, () => stream.push(1))];
    expect(pieces.slice(1)).toEqual(Array(40).fill('你'));
    expect(pieces.join('') + stream.flush()).toBe(new TextDecoder().decode(Uint8Array.from(tokens)));
  });

  test('the work per token does not grow with the text', () => {
    let decoded = 0;
    const counting = (ids: readonly number[]) => {
      decoded += ids.length;
      return tokenizer.decode(ids);
    };
    const inputs = {
      text: tokenizer.encode('the cat sat. '.repeat(300)),
      garbage: Array<number>(2000).fill(idOfByte(0x80)),
    };
    for (const tokens of Object.values(inputs)) {
      decoded = 0;
      const stream = createTextStream(counting, () => false);
      let text = tokens.map((token) => stream.push(token)).join('');
      text += stream.flush();
      expect(text).toBe(tokenizer.decode(tokens));
      expect(decoded / tokens.length).toBeLessThan(25);
    }
  });

  test('a decoder that strips the first blank, with a byte fallback', () => {
    const llama = llama2Style();
    expect(llama.encode('a ab')).toEqual([1, ...['▁a', '▁a', 'b'].map((token) => llama.idOf(token))]);
    expect(llama.decode(llama.encode('a ab 😀'))).toBe('a ab 😀');
    const some = fc.oneof(
      fc.constantFrom(0, 1, 2, ...['▁', 'a', 'b', '▁a', 'ab', '▁▁'].map((token) => llama.idOf(token)!)),
      fc.integer({ min: 3 + 0x80, max: 3 + 0xff }),
      fc.constantFrom(...bytesOf('你😀é').map((byte) => byte + 3)),
    );
    fc.assert(
      fc.property(fc.array(some, { maxLength: 100 }), (tokens) => expectExactStream(llama, tokens)),
      { numRuns: 500 },
    );
  });

  test('flush gives what is held once', () => {
    const stream = tokenizer.createTextStream();
    expect(stream.push(idOfByte(0xf0))).toBe('');
    expect(stream.flush()).toBe('\uFFFD');
    expect(stream.flush()).toBe('');
  });
});
