import { expect, it } from 'vitest';
import { type RowsSource, rowsSize, rowsStep } from '../../src/kernels/rows.ts';
import { stateFields, stateWords } from '../../src/speculative/sequence.ts';
import { rowsOfPass } from '../reference/rows.ts';
import { device, empty, readUints, run, words } from './kernel_bench.ts';

const history = [5, 6, 7, 8, 9, 10, 11];
const drafts = [21, 22, 23];

async function rowsFor(source: RowsSource, contextLength: number, sampledToken: number, finish = 0, found = 0) {
  const state = new Uint32Array(stateWords);
  state[stateFields.length] = history.length;
  state[stateFields.promptLength] = history.length;
  state[stateFields.contextLength] = contextLength;
  state[stateFields.targetFed] = 3;
  state[stateFields.draftFed] = 2;
  state[stateFields.finish] = finish;
  state.set(drafts, stateFields.drafts);
  state[stateFields.draftCount] = found;
  const rows = empty(rowsSize(8) / 4);
  const buffers = { state: words(state), history: words(history), sampled: words([sampledToken]), rows };
  run({ rows: 1, blocks: 1 }, await rowsStep(device(), buffers, { slot: 0, historyStride: 64, source }));
  const got = await readUints(rows);
  const all = Array.from({ length: got[0] as number }, (_, t) => got.subarray(4 + t * 4, 8 + t * 4));
  return {
    rows: { tokens: all.map((row) => row[0]), positions: all.map((row) => row[2]), firstOutputRow: got[1] },
    state: await readUints(buffers.state),
  };
}

it.each([11, 9, 8])('every kind of pass equals its twin in a context of %i', async (context) => {
  const twin = (pass: Parameters<typeof rowsOfPass>[3]) => rowsOfPass(history, drafts, context, pass);
  const prefill = await rowsFor({ mode: 'prefill', model: 'target', capacity: 2 }, context, 0);
  expect(prefill.rows).toEqual(twin({ mode: 'prefill', start: 3, capacity: 2 }));
  expect(prefill.state[stateFields.targetFed]).toBe(5);
  const draftFirst = await rowsFor({ mode: 'draftFirst' }, context, 0);
  expect(draftFirst.rows).toEqual(twin({ mode: 'draft', step: 1 }));
  expect(draftFirst.state[stateFields.draftFed]).toBe(history.length);
  for (const capacity of [2, 8]) {
    const catchUp = await rowsFor({ mode: 'catchUp', capacity }, context, 0);
    expect(catchUp.rows).toEqual(twin({ mode: 'catchUp', start: 2, capacity }));
    expect(catchUp.state[stateFields.draftFed]).toBe(Math.min(2 + capacity, history.length - 2));
  }
  for (const step of [2, 3]) {
    const got = await rowsFor({ mode: 'draftNext', step }, context, drafts[step - 2] as number);
    const expected = twin({ mode: 'draft', step });
    expect(got.rows.positions).toEqual(expected.positions);
    expect(got.rows.tokens).toEqual(expected.tokens);
  }
  const verify = await rowsFor({ mode: 'verify', draftLength: 3 }, context, 23);
  expect(verify.rows).toEqual(twin({ mode: 'verify' }));
  expect(verify.state[stateFields.draftCount]).toBe(verify.rows.tokens.length - 1);
  // Drafts that were found: fewer than asked for, none, more.
  for (const found of [0, 2, 3]) {
    const got = await rowsFor({ mode: 'verifyFound', draftLength: 3 }, context, 99, 0, found);
    expect(got.rows).toEqual(rowsOfPass(history, drafts.slice(0, found), context, { mode: 'verify' }));
    expect(got.state[stateFields.draftCount]).toBe(got.rows.tokens.length - 1);
  }
});

it('a finished sequence has no rows', async () => {
  for (const source of [
    { mode: 'draftFirst' },
    { mode: 'draftNext', step: 2 },
    { mode: 'verify', draftLength: 3 },
    { mode: 'verifyFound', draftLength: 3 },
  ] as const) {
    expect((await rowsFor(source, 11, 1, 1)).rows.tokens).toEqual([]);
  }
});
