import { expect, it } from 'vitest';
import { acceptStep } from '../../src/kernels/accept.ts';
import { parseRecord, RECORD_WORDS } from '../../src/speculative/record.ts';
import { stateFields, stateWords } from '../../src/speculative/sequence.ts';
import { accept, acceptRejected, countDrafts } from '../reference/accept.ts';
import { noToken } from '../reference/argmax.ts';
import { createRandom } from '../reference/random.ts';
import { device, empty, readUints, run, words } from './kernel_bench.ts';

const vocabSize = 16;
const historyStride = 64;
const promptBit = 0x80000000;

type RoundOfOne = {
  drafts: number[];
  /** (K + 1,); with rejection (1,) */
  targetTokens: number[];
  /** With rejection. */
  acceptedCount: number;
  n: number;
  contextLength: number;
  maxLength: number;
  stopTokenIds: number[];
  hasAdjustments: boolean;
};

function randomRound(seed: number, rejection: boolean): RoundOfOne {
  const random = createRandom(seed);
  const k = random.integer(8);
  const targetTokens = Array.from({ length: rejection ? 1 : k + 1 }, () =>
    random.uniform() < 0.05 ? noToken : random.integer(3),
  );
  const drafts = Array.from({ length: k }, (_, j) =>
    random.uniform() < 0.8 ? targetTokens[rejection ? 0 : j]! % vocabSize : 9,
  );
  const n = 2 + random.integer(10);
  const contextLength = n + 1 + random.integer(10);
  const maxLength = Math.min(contextLength, n + 1 + random.integer(9));
  const draftCount = countDrafts(k, n, contextLength);
  return {
    drafts,
    targetTokens,
    acceptedCount: random.integer(draftCount + 1),
    n,
    contextLength,
    maxLength,
    stopTokenIds: random.uniform() < 0.3 ? [2] : [],
    hasAdjustments: random.uniform() < 0.5,
  };
}

it.each([false, true])('equals its twin on 60 random rounds of a batch, rejection %s', async (rejection) => {
  const count = 60;
  // The draft model ran in the even ones.
  const draftFedBefore = (i: number, n: number) => (i % 2 === 0 ? n : n - 1);
  const firstSlot = 2; // those before it sit out
  const targetStride = 8;
  const rounds = Array.from({ length: count }, (_, i) => randomRound(i, rejection));
  const state = new Uint32Array((firstSlot + count) * stateWords);
  const targetTokens = new Uint32Array(count * targetStride);
  const nextTokens = new Uint32Array(firstSlot + count);
  rounds.forEach(
    ({ drafts, targetTokens: tokens, acceptedCount, n, contextLength, maxLength, stopTokenIds, hasAdjustments }, i) => {
      const start = (firstSlot + i) * stateWords;
      const draftCount = countDrafts(drafts.length, n, contextLength);
      state.set(
        [n, maxLength, contextLength, 0, 4, 3, n, n, draftFedBefore(i, n), draftCount, stopTokenIds.length],
        start,
      );
      state.set(drafts, start + stateFields.drafts);
      state.set(stopTokenIds, start + stateFields.stopTokens);
      state[start + stateFields.acceptedCount] = acceptedCount;
      state[start + stateFields.hasAdjustments] = Number(hasAdjustments);
      state[start + stateFields.sampling] = rejection ? 3 : i % 3;
      state[start + stateFields.turn] = 1 + drafts.length;
      // Rows in another order than slots.
      state[start + stateFields.firstRow] = (count - 1 - i) * targetStride;
      if (rejection) nextTokens[firstSlot + i] = tokens[0]!;
      else targetTokens.set(tokens, (count - 1 - i) * targetStride);
    },
  );
  // Every token was in the prompt, and has a bias that nothing may change.
  const before = Uint32Array.from({ length: (firstSlot + count) * vocabSize * 2 }, (_, i) =>
    i % 2 === 0 ? promptBit + 3 : 77,
  );
  const buffers = {
    targetTokens: words(targetTokens),
    nextTokens: words(nextTokens),
    state: words(state),
    history: empty((firstSlot + count) * historyStride),
    record: empty((firstSlot + count) * RECORD_WORDS),
    adjustments: words(before),
  };
  const step = await acceptStep(device(), buffers, { slots: firstSlot + count, historyStride, vocabSize });
  run({ rows: 1, blocks: 1 }, step);
  const recordsOf = async () => {
    const all = await readUints(buffers.record);
    expect(all.subarray(0, firstSlot * RECORD_WORDS).every((word) => word === 0)).toBe(true);
    return all.slice(firstSlot * RECORD_WORDS);
  };
  const records = await recordsOf();
  const history = await readUints(buffers.history);
  const adjustments = await readUints(buffers.adjustments);
  const stateAfter = await readUints(buffers.state);
  const recordOf = (all: Uint32Array, i: number) => parseRecord(all.slice(i * RECORD_WORDS, (i + 1) * RECORD_WORDS));
  const twins = rounds.map(
    ({ drafts, targetTokens: tokens, acceptedCount, n, contextLength, maxLength, stopTokenIds }) => {
      const limits = { committedLength: n, maxLength, contextLength, stopTokenIds };
      return rejection ? acceptRejected(drafts, acceptedCount, tokens[0]!, limits) : accept(drafts, tokens, limits);
    },
  );
  const expectedAdjustments = before.slice();
  twins.forEach((twin, i) => {
    const { n, hasAdjustments } = rounds[i]!;
    expect(recordOf(records, i)).toMatchObject({
      slot: firstSlot + i,
      epoch: 4,
      roundIndex: 3,
      draftCount: twin.draftCount,
      acceptedCount: twin.acceptedCount,
      tokens: twin.tokens,
      finish: twin.finish,
      nonFinite: twin.nonFinite,
      length: n + twin.tokens.length,
    });
    const draftFed = i % 2 === 0 ? n + twin.tokens.length - 2 : n - 1;
    expect(stateAfter[(firstSlot + i) * stateWords + stateFields.draftFed]).toBe(draftFed);
    const start = (firstSlot + i) * historyStride + n;
    expect([...history.subarray(start, start + twin.tokens.length)]).toEqual(twin.tokens);
    for (const token of hasAdjustments ? twin.tokens : []) {
      expectedAdjustments[((firstSlot + i) * vocabSize + token) * 2]! += 1;
    }
  });
  expect(adjustments).toEqual(expectedAdjustments);
  // All that can happen did.
  const finishes = twins.map(({ finish, nonFinite }) => (nonFinite ? 'nonFinite' : finish));
  for (const finish of [null, 'stop', 'length', 'nonFinite']) expect(finishes).toContain(finish);

  run({ rows: 1, blocks: 1 }, step);
  const again = await recordsOf();
  twins.forEach(({ finish }, i) => {
    if (finish !== null) expect(recordOf(again, i).phase).toBe('noop');
  });
});

it.each([false, true])(
  'the prefill commits one token, whatever the state says of drafts; rejection %s',
  async (rejection) => {
    const state = new Uint32Array(stateWords);
    state.set([5, 20, 20, 0, 4, 0, 5, 5, 5, 3]);
    state.set([7, 7, 7], stateFields.drafts);
    state[stateFields.acceptedCount] = 3;
    state[stateFields.sampling] = rejection ? 3 : 0;
    state[stateFields.turn] = 1;
    const record = empty(RECORD_WORDS);
    const choices = { targetTokens: words([7, 7, 7, 7]), nextTokens: words([7]) };
    const buffers = { ...choices, state: words(state), history: empty(64), record };
    const shape = { slots: 1, historyStride, vocabSize };
    run({ rows: 1, blocks: 1 }, await acceptStep(device(), { ...buffers, adjustments: empty(32) }, shape));
    const { phase, draftCount, acceptedCount, tokens, length } = parseRecord(await readUints(record));
    expect({ phase, draftCount, acceptedCount, tokens, length }).toEqual({
      phase: 'prefill',
      draftCount: 0,
      acceptedCount: 0,
      tokens: [7],
      length: 6,
    });
  },
);
