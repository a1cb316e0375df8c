import { describe, expect, it, vi } from 'vitest';
import type { FinishReason, GenerateOptions } from '../../../src/types.ts';
import { bytesOf, idOfByte, tokenizer } from '../model/tokenizers.ts';
import { checkSums, endOfText, play } from './requests.ts';

vi.mock('../../../src/gpu/submit.ts', async (importOriginal) => ({
  ...(await importOriginal<typeof import('../../../src/gpu/submit.ts')>()),
  submitPass: (await import('./scripted_batch.ts')).submitPass,
}));

/** Tokens of texts: one each where the vocabulary has it, else one per byte. Numbers are single bytes; `<eos>` ends the text. */
function tokensOf(...says: (string | number)[]): number[] {
  return says.flatMap((text) => {
    if (typeof text === 'number') return [idOfByte(text)];
    if (text === '<eos>') return [endOfText];
    // The entries of a byte-level vocabulary spell other characters by characters that stand for bytes.
    const isAscii = bytesOf(text).length === text.length;
    const id = isAscii ? tokenizer.idOf(text.replaceAll(' ', 'Ġ').replaceAll('\n', 'Ċ')) : undefined;
    return id === undefined ? bytesOf(text).map(idOfByte) : [id];
  });
}
const once = ['Once', ' upon', ' a', ' time', ',', ' there'];
const filler = tokensOf(' the')[0]!;

type Case = {
  name: string;
  /** The target's tokens; ` the` for ever behind them. */
  says: (string | number)[];
  options: GenerateOptions;
  text: string;
  finish: FinishReason;
  /** completion_tokens */
  count: number;
};
const stopped = (matched: string | number): FinishReason => ({ type: 'stop', matched });
const full = (length: number): FinishReason => ({ type: 'length', length });
/** The bytes of one character are so many tokens. */
const bytes = (text: string): number => bytesOf(text).length;

const cases: Case[] = [
  // inside a token
  {
    name: 'inside a token',
    says: [' happily', ' ever'],
    options: { stop: 'ppi' },
    text: ' ha',
    finish: stopped('ppi'),
    count: 1,
  },
  {
    name: 'the beginning of a token',
    says: once,
    options: { stop: ' up' },
    text: 'Once',
    finish: stopped(' up'),
    count: 2,
  },
  { name: 'the end of a token', says: once, options: { stop: 'ce' }, text: 'On', finish: stopped('ce'), count: 1 },
  { name: 'a whole token', says: once, options: { stop: ' upon' }, text: 'Once', finish: stopped(' upon'), count: 2 },
  { name: 'the first character of all', says: once, options: { stop: 'O' }, text: '', finish: stopped('O'), count: 1 },
  { name: 'a blank', says: once, options: { stop: ' ' }, text: 'Once', finish: stopped(' '), count: 2 },
  // across tokens and rounds
  {
    name: 'across two tokens',
    says: once,
    options: { stop: 'on a' },
    text: 'Once up',
    finish: stopped('on a'),
    count: 3,
  },
  {
    name: 'across four tokens, from inside the first into the last',
    says: once,
    options: { stop: 'ce upon a ti' },
    text: 'On',
    finish: stopped('ce upon a ti'),
    count: 4,
  },
  {
    name: 'all of the text, over six tokens',
    says: once,
    options: { stop: 'Once upon a time, there' },
    text: '',
    finish: stopped('Once upon a time, there'),
    count: 6,
  },
  {
    name: 'two line breaks in two tokens',
    says: ['She', ' said', ',', '\n', '\n', 'The'],
    options: { stop: ['\n\n'] },
    text: 'She said,',
    finish: stopped('\n\n'),
    count: 5,
  },
  {
    name: 'a role of a dialogue',
    says: ['U', 's', 'er', ':', ' h', 'i', '\n', 'U', 's', 'er', ':', ' no'],
    options: { stop: '\nUser:' },
    text: 'User: hi',
    finish: stopped('\nUser:'),
    count: 11,
  },
  // overlapping and several
  {
    name: 'overlapping itself: the second try begins inside the first',
    says: ['ab', 'ab', 'ac', ' the'],
    options: { stop: 'abac' },
    text: 'ab',
    finish: stopped('abac'),
    count: 3,
  },
  {
    name: 'overlapping itself by all but one character',
    says: ['a', 'a', 'ab', ' the'],
    options: { stop: 'aab' },
    text: 'a',
    finish: stopped('aab'),
    count: 3,
  },
  {
    name: 'two: the one that is complete first counts, though it began later',
    says: once,
    options: { stop: ['Once upon', 'nc'] },
    text: 'O',
    finish: stopped('nc'),
    count: 1,
  },
  {
    name: 'two, one of them the beginning of the other: the short one is complete first',
    says: once,
    options: { stop: ['upon', 'up'] },
    text: 'Once ',
    finish: stopped('up'),
    count: 2,
  },
  {
    name: 'two, one of them the end of the other: the long one counts',
    says: once,
    options: { stop: ['pon', 'upon'] },
    text: 'Once ',
    finish: stopped('upon'),
    count: 2,
  },
  {
    name: 'the same, listed the other way round',
    says: once,
    options: { stop: ['upon', 'pon'] },
    text: 'Once ',
    finish: stopped('upon'),
    count: 2,
  },
  {
    name: 'a stop inside what is held back for another that fails later',
    says: once,
    options: { stop: ['Once upon a river', 'pon a t'] },
    text: 'Once u',
    finish: stopped('pon a t'),
    count: 4,
  },
  // never complete
  {
    name: 'a beginning that is not completed: the text goes on',
    says: once,
    options: { stop: ' upon the', maxNewTokens: 6 },
    text: 'Once upon a time, there',
    finish: full(6),
    count: 6,
  },
  {
    name: 'a beginning at the limit: it is text',
    says: once,
    options: { stop: ' time, there', maxNewTokens: 5 },
    text: 'Once upon a time,',
    finish: full(5),
    count: 5,
  },
  {
    name: 'a beginning before the end of the text: it is text',
    says: ['Once', ' upon', '<eos>'],
    options: { stop: ' upon a' },
    text: 'Once upon',
    finish: stopped(endOfText),
    count: 3,
  },
  {
    name: 'one line break where two would stop',
    says: ['She', ' said', '\n', 'The', '\n', 'end', '<eos>'],
    options: { stop: '\n\n' },
    text: 'She said\nThe\nend',
    finish: stopped(endOfText),
    count: 3 + 1 + tokensOf('end').length + 2,
  },
  {
    name: 'another case',
    says: once,
    options: { stop: ['once', 'UPON'], maxNewTokens: 2 },
    text: 'Once upon',
    finish: full(2),
    count: 2,
  },
  // multi-byte
  {
    name: 'an emoji in four tokens',
    says: ['I', ' like', ' ', '🐶', ' and'],
    options: { stop: '🐶' },
    text: 'I like ',
    finish: stopped('🐶'),
    count: 3 + bytes('🐶'),
  },
  {
    name: 'an emoji whose first three bytes another shares',
    says: ['I', ' like', ' ', '🐶', ' and', ' ', '🐱', ' the'],
    options: { stop: '🐱' },
    text: 'I like 🐶 and ',
    finish: stopped('🐱'),
    count: 3 + bytes('🐶') + 2 + bytes('🐱'),
  },
  {
    name: 'from a word into an emoji',
    says: ['I', ' like', ' ', '🐶', '🐱'],
    options: { stop: 'like 🐶' },
    text: 'I ',
    finish: stopped('like 🐶'),
    count: 3 + bytes('🐶'),
  },
  {
    name: 'a letter of two bytes behind a part of a token',
    says: ['c', 'af', 'é', ' the'],
    options: { stop: 'fé' },
    text: 'ca',
    finish: stopped('fé'),
    count: 4,
  },
  {
    name: 'not the letter without its accent',
    says: ['c', 'af', 'é', '<eos>'],
    options: { stop: 'e' },
    text: 'café',
    finish: stopped(endOfText),
    count: 5,
  },
  {
    name: 'two of three characters of three bytes',
    says: ['日', '本', '語'],
    options: { stop: '本語' },
    text: '日',
    finish: stopped('本語'),
    count: 9,
  },
  {
    name: 'half a character at the limit, held back by nothing',
    says: ['I', '🐶'],
    options: { stop: '🐶', maxNewTokens: 3 },
    text: 'I\uFFFD',
    finish: full(3),
    count: 3,
  },
  {
    name: 'the sign of half a character, which only the end reveals',
    says: ['I', '🐶'],
    options: { stop: '\uFFFD', maxNewTokens: 3 },
    text: 'I',
    finish: stopped('\uFFFD'),
    count: 3,
  },
  {
    name: 'behind a byte that is no character',
    says: ['I', 0xff, ' like', ' a'],
    options: { stop: 'like' },
    text: 'I\uFFFD ',
    finish: stopped('like'),
    count: 3,
  },
  // at the very end, and beside other ends
  {
    name: 'at the limit: a stop, not a length',
    says: once,
    options: { stop: ' time', maxNewTokens: 4 },
    text: 'Once upon a',
    finish: stopped(' time'),
    count: 4,
  },
  {
    name: 'in the only token',
    says: once,
    options: { stop: 'Once', maxNewTokens: 1 },
    text: '',
    finish: stopped('Once'),
    count: 1,
  },
  {
    name: 'right before the end of the text, which then counts no more',
    says: ['Once', ' upon', '<eos>'],
    options: { stop: ' upon' },
    text: 'Once',
    finish: stopped(' upon'),
    count: 2,
  },
  {
    name: 'the name of the end of the text: it is no text',
    says: ['Once', '<eos>'],
    options: { stop: '<|endoftext|>' },
    text: 'Once',
    finish: stopped(endOfText),
    count: 2,
  },
  {
    name: 'around an end of the text that is ignored',
    says: ['Once', '<eos>', ' upon', ' a'],
    options: { stop: 'ce upon', ignoreEos: true },
    text: 'On',
    finish: stopped('ce upon'),
    count: 3,
  },
  {
    name: 'a stop token comes before its own text',
    says: once,
    options: { stop: 'upon', stopTokenIds: tokensOf(' upon') },
    text: 'Once',
    finish: stopped(tokensOf(' upon')[0]!),
    count: 2,
  },
  {
    name: 'a stop token behind a beginning',
    says: once,
    options: { stop: ' upon a time', stopTokenIds: tokensOf(',', ' time') },
    text: 'Once upon a',
    finish: stopped(tokensOf(' time')[0]!),
    count: 4,
  },
  {
    name: 'below minNewTokens all the same',
    says: once,
    options: { stop: 'upon', minNewTokens: 5, maxNewTokens: 6 },
    text: 'Once ',
    finish: stopped('upon'),
    count: 2,
  },
];

/** How the same tokens come in rounds: the cases must end alike in all of them. */
const shapes: Record<string, { rounds: { draftCount: number; acceptedCount: number }[]; roundsInFlight: number }> = {
  'plain rounds': { rounds: [], roundsInFlight: 2 },
  'rounds of 2, four in flight': { rounds: Array(40).fill({ draftCount: 3, acceptedCount: 1 }), roundsInFlight: 4 },
  'rounds of 3 after one of 2': {
    rounds: [{ draftCount: 7, acceptedCount: 1 }, ...Array(40).fill({ draftCount: 2, acceptedCount: 2 })],
    roundsInFlight: 2,
  },
  'rounds of 8': { rounds: Array(40).fill({ draftCount: 7, acceptedCount: 7 }), roundsInFlight: 3 },
};

it('the table has its 30 cases', () => {
  expect(cases.length).toBeGreaterThanOrEqual(30);
  expect(new Set(cases.map(({ name }) => name)).size).toBe(cases.length);
});

describe.each(cases)('$name', ({ says, options, text, finish, count }) => {
  it.each(Object.entries(shapes))('%s', async (_, { rounds, roundsInFlight }) => {
    const tokens = tokensOf(...says);
    const played = await play({ tokens, filler, rounds, roundsInFlight }, options);
    const { result } = played;
    expect({ text: result.text, finish: result.meta_info.finish_reason }).toEqual({ text, finish });
    expect(result.meta_info.completion_tokens).toBe(count);
    expect(result.tokens).toEqual(tokens.slice(0, count));
    checkSums(played);
  });
});

it('a stop is across two rounds here: the first round ends inside it, and nothing behind it was counted', async () => {
  const rounds = Array(3).fill({ draftCount: 3, acceptedCount: 3 });
  const tokens = tokensOf(...once);
  const played = await play({ tokens, filler, rounds, roundsInFlight: 3 }, { stop: 'e upon', maxNewTokens: 100 });
  expect(played.rounds.map((round) => round.text)).toEqual(['Onc', '']);
  expect(played.rounds.map((round) => round.stats)).toMatchObject([
    { phase: 'prefill', tokenCount: 1 },
    { phase: 'verify', draftLength: 3, acceptedCount: 3, tokenCount: 1 },
  ]);
  // More rounds were under way, and they were real ones, not no-ops.
  expect(played.recordCount).toBeGreaterThan(2);
  expect(checkSums(played)).toBe(3);
  expect(played.result.meta_info).toMatchObject({
    completion_tokens: 2,
    spec_verify_ct: 1,
    spec_num_proposed_drafts: 3,
    spec_num_correct_drafts: 3,
    spec_accept_length: 2,
  });
});
