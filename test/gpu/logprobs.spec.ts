import { expect, it } from 'vitest';
import { logprobsStep } from '../../src/kernels/logprobs.ts';
import { LOGPROBS_ROW_WORDS } from '../../src/speculative/logprobs.ts';
import { encodeRecord, type RoundRecord } from '../../src/speculative/record.ts';
import { stateFields, stateWords } from '../../src/speculative/sequence.ts';
import { noToken } from '../reference/argmax.ts';
import { logprobs } from '../reference/logprobs.ts';
import { createRandom } from '../reference/random.ts';
import { lowest } from '../reference/warp.ts';
import { device, empty, floats, readUints, rounded, run, words } from './kernel_bench.ts';

const maxTop = 20;

async function logprobsOf(rows: readonly Float64Array[], tokens: number[], topLogprobs: number, given: object = {}) {
  const vocabSize = rows[0]!.length;
  const record: RoundRecord = {
    slot: 1,
    epoch: 1,
    roundIndex: 2,
    phase: 'verify',
    nonFinite: false,
    finish: null,
    draftCount: 7,
    acceptedCount: tokens.length - 1,
    committedCount: tokens.length,
    length: 40,
    tokens,
    ...given,
  };
  const state = new Uint32Array(2 * stateWords);
  const firstRow = 2;
  state.set([3, 1], stateFields.firstRow); // another slot's, which wants none
  state[stateFields.turn] = 4;
  state[stateWords + stateFields.logprobCount] = topLogprobs + 1;
  state[stateWords + stateFields.turn] = 8;
  state[stateWords + stateFields.firstRow] = firstRow;
  const logits = new Float32Array((firstRow + rows.length) * vocabSize);
  rows.forEach((row, m) => {
    logits.set(row, (firstRow + m) * vocabSize);
  });
  const output = empty(2 * 8 * LOGPROBS_ROW_WORDS);
  const buffers = {
    state: words(state),
    logits: floats(logits),
    record: words([...encodeRecord({ ...record, slot: 0 }), ...encodeRecord(record)]),
    logprobs: output,
  };
  run({ rows: 1, blocks: 1 }, await logprobsStep(device(), buffers, { slots: 2, vocabSize }));
  const all = await readUints(output);
  expect(all.subarray(0, 8 * LOGPROBS_ROW_WORDS).every((word) => word === 0)).toBe(true);
  const got = all.slice(8 * LOGPROBS_ROW_WORDS);
  const gotFloats = new Float32Array(got.buffer);
  return rows.map((_, m) => {
    const start = m * LOGPROBS_ROW_WORDS;
    return {
      words: got.subarray(start, start + LOGPROBS_ROW_WORDS),
      logprob: gotFloats[start]!,
      ids: [...got.subarray(start + 1, start + 1 + maxTop)],
      logprobs: [...gotFloats.subarray(start + 1 + maxTop, start + 1 + 2 * maxTop)],
    };
  });
}

async function expectTwin(rows: readonly Float64Array[], tokens: number[], topCount: number): Promise<void> {
  const got = await logprobsOf(rows, tokens, topCount);
  rows.forEach((row, m) => {
    const { logprob, ids, logprobs: values, words: all } = got[m]!;
    if (m >= tokens.length) {
      expect(all.every((word) => word === 0)).toBe(true);
      return;
    }
    const twin = logprobs(row, tokens[m]!, topCount);
    // f32 near the largest logit.
    const tolerance =
      4e-6 * (1 + row.reduce((largest, x) => (Number.isFinite(x) ? Math.max(largest, Math.abs(x)) : largest), 0));
    expect(Math.abs(logprob - twin.logprob)).toBeLessThan(tolerance);
    expect(ids.slice(0, twin.top.length)).toEqual(twin.top.map(({ id }) => id));
    twin.top.forEach((top, rank) => {
      expect(Math.abs(values[rank]! - top.logprob)).toBeLessThan(tolerance);
    });
    // Past the vocabulary there is no token; past the wanted ones nothing is written.
    for (const id of ids.slice(twin.top.length, topCount)) expect(id).toBe(noToken);
    for (const id of ids.slice(topCount)) expect(id).toBe(0);
  });
}

it.each([64, 256, 1500])('equals its twin over %i logits, rows past the accepted ones left out', async (vocabSize) => {
  const random = createRandom(vocabSize);
  for (const topCount of [0, 1, 5, 20]) {
    const rows = Array.from({ length: 8 }, (_, m) => rounded(random.normals(vocabSize, [0.01, 1, 4, 30][m % 4])));
    const tokens = Array.from({ length: 1 + random.integer(8) }, () => random.integer(vocabSize));
    await expectTwin(rows, tokens, topCount);
  }
});

it('equals its twin over 151,936 logits', async () => {
  const random = createRandom(2);
  const rows = [0.5, 3].map((scale) => rounded(random.normals(151_936, scale)));
  await expectTwin(rows, [151_935, 77_777], 20);
});

it('edges: ties, equal logits, NaN and infinities, fewer tokens than wanted', async () => {
  const rows = [
    Float64Array.from({ length: 300 }, (_, id) => id % 4),
    new Float64Array(300).fill(-3),
    Float64Array.from({ length: 300 }, (_, id) =>
      id % 60 === 7 ? id / 10 : [Number.NaN, Infinity, -Infinity][id % 3]!,
    ),
    Float64Array.from({ length: 300 }, (_, id) => (id < 290 ? 2 : lowest)),
  ];
  await expectTwin(rows, [299, 0, 7, 4], 20);
  const few = [Float64Array.of(1, 2, 2), Float64Array.of(lowest, 0, lowest)];
  await expectTwin(few, [1, 1], 20);
});

it('writes nothing in a round that does nothing, or has no finite logits', async () => {
  const row = createRandom(1).normals(64);
  const noop = await logprobsOf([row], [1], 5, { phase: 'noop' });
  const nonFinite = await logprobsOf([row], [1], 5, { nonFinite: true, finish: 'length' });
  for (const [got] of [noop, nonFinite]) expect(got!.words.every((word) => word === 0)).toBe(true);
});
