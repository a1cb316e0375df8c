import { expect, it } from 'vitest';
import { type RowsSource, rowsSize, rowsStep } from '../../src/kernels/rows.ts';
import { stateFields, stateWords } from '../../src/speculative/sequence.ts';
import { rowsOfPass, type TwinPass, type TwinSequence } from '../reference/rows.ts';
import { device, empty, readUints, run, words } from './kernel_bench.ts';

const historyStride = 64;
const fed = { target: 3, draft: 2 };

type Given = TwinSequence & {
  finish?: number;
  /** Drafts that a lookup found. */
  found?: number;
  /** Its output row in the draft's last pass. */
  draftRow?: number;
};

const sequenceOf = (slot: number, given: Partial<Given> = {}): Given => ({
  slot,
  history: Array.from({ length: 7 + slot }, (_, i) => 5 + i + 100 * slot),
  drafts: [21, 22, 23].map((token) => token + 100 * slot),
  contextLength: 20,
  draftLength: 3,
  ...given,
});

/** What the shader makes of the sequences, by slot; `sampled`: what the draft's last pass chose. */
async function rowsFor(sequences: readonly Given[], source: RowsSource, groupRows: number, sampled: number[] = [0]) {
  const state = new Uint32Array(sequences.length * stateWords);
  const history = new Uint32Array(sequences.length * historyStride);
  for (const { slot, history: tokens, drafts, contextLength, draftLength, finish, found, draftRow } of sequences) {
    const set = (field: keyof typeof stateFields, value: number) => {
      state[slot * stateWords + stateFields[field]] = value;
    };
    set('length', tokens.length);
    set('promptLength', tokens.length);
    set('contextLength', contextLength);
    set('targetFed', fed.target);
    set('draftFed', fed.draft);
    set('finish', finish ?? 0);
    set('draftCount', found ?? 0);
    set('draftRow', draftRow ?? 0);
    set('turn', finish ? 4 : (draftLength ?? -1) + 1);
    state.set(drafts, slot * stateWords + stateFields.drafts);
    history.set(tokens, slot * historyStride);
  }
  const rows = empty(rowsSize(64) / 4);
  const buffers = { state: words(state), history: words(history), sampled: words(sampled), rows };
  const shape = { slots: sequences.length, historyStride, groupRows, source };
  run({ rows: 1, blocks: 1 }, await rowsStep(device(), buffers, shape));
  const got = await readUints(rows);
  const wordsOf = (count: number, field: number) =>
    Array.from({ length: count }, (_, i) => got[4 + i * 4 + field] as number);
  const [tokens, slots, positions] = [0, 1, 2].map((field) => wordsOf(got[0] as number, field)) as number[][];
  const after = await readUints(buffers.state);
  return {
    pass: {
      rows: tokens!.map((token, t) => ({ token, slot: slots![t], position: positions![t] })),
      firstOutputRow: got[1],
      groups: wordsOf(got[2] as number, 3).map((word) => [word & 0xffff, word >>> 16]),
    },
    field: (slot: number, field: keyof typeof stateFields) => after[slot * stateWords + stateFields[field]],
  };
}

const twinOf = (sequences: readonly Given[], pass: TwinPass, groupRows: number) =>
  rowsOfPass(sequences, pass, groupRows);

it.each([20, 9, 8])('one sequence: every kind of pass equals its twin in a context of %i', async (contextLength) => {
  const one = [sequenceOf(0, { contextLength })];
  const { length } = one[0]!.history;
  for (const groupRows of [1, 2, 8]) {
    const prefill = await rowsFor(one, { mode: 'prefill', slot: 0, model: 'target', capacity: 3 }, groupRows);
    expect(prefill.pass).toEqual(twinOf(one, { mode: 'prefill', start: fed.target, capacity: 3 }, groupRows));
    expect(prefill.field(0, 'targetFed')).toBe(6);
    const draftFirst = await rowsFor(one, { mode: 'draftFirst' }, groupRows);
    expect(draftFirst.pass).toEqual(twinOf(one, { mode: 'draft', step: 1 }, groupRows));
    expect(draftFirst.field(0, 'draftFed')).toBe(length);
    for (const capacity of [2, 8]) {
      const catchUp = await rowsFor(one, { mode: 'catchUp', slot: 0, capacity }, groupRows);
      expect(catchUp.pass).toEqual(twinOf(one, { mode: 'catchUp', start: fed.draft, capacity }, groupRows));
      expect(catchUp.field(0, 'draftFed')).toBe(Math.min(fed.draft + capacity, length - 2));
    }
    for (const step of [2, 3]) {
      const got = await rowsFor(one, { mode: 'draftNext', step }, groupRows, [one[0]!.drafts[step - 2]!]);
      expect(got.pass).toEqual(twinOf(one, { mode: 'draft', step }, groupRows));
    }
    const verify = await rowsFor(one, { mode: 'verify' }, groupRows, [23]);
    expect(verify.pass).toEqual(twinOf(one, { mode: 'verify' }, groupRows));
    expect(verify.field(0, 'draftCount')).toBe(verify.pass.rows.length - 1);
    // Drafts that were found: fewer than asked for, none, all.
    for (const found of [0, 2, 3]) {
      const got = await rowsFor([{ ...one[0]!, found }], { mode: 'verifyFound' }, groupRows, [99]);
      const drafts = one[0]!.drafts.slice(0, found);
      expect(got.pass).toEqual(twinOf([{ ...one[0]!, drafts }], { mode: 'verify' }, groupRows));
      expect(got.field(0, 'draftCount')).toBe(got.pass.rows.length - 1);
    }
  }
});

it('a batch: longer and shorter turns, a plain one, one that sits out, one that ended, one at its context', async () => {
  const sequences = [
    sequenceOf(0, { draftLength: 3 }),
    sequenceOf(1, { draftLength: 1, drafts: [121] }),
    sequenceOf(2, { draftLength: null }),
    sequenceOf(3, { draftLength: null, finish: 1 }),
    sequenceOf(4, { draftLength: 0, drafts: [] }),
    sequenceOf(5, { draftLength: 2, drafts: [521, 522], contextLength: 13 }),
    sequenceOf(6, { draftLength: 3 }),
  ];
  for (const groupRows of [1, 2, 3]) {
    const first = await rowsFor(sequences, { mode: 'draftFirst' }, groupRows);
    expect(first.pass).toEqual(twinOf(sequences, { mode: 'draft', step: 1 }, groupRows));
    // In the order of their slots: where the choices of this pass are found, and where its distributions go.
    expect([0, 1, 5, 6].map((slot) => first.field(slot, 'draftRow'))).toEqual([0, 1, 2, 3]);
    expect([0, 1, 5, 6].map((slot) => first.field(slot, 'firstDraftRow'))).toEqual([0, 3, 4, 6]);
    expect(first.field(4, 'draftFed')).toBe(fed.draft);

    // Step 2 takes the choices of step 1, of the turn that ends with it too.
    const rows = new Map([0, 1, 5, 6].map((slot, draftRow) => [slot, draftRow]));
    const unknown = sequences.map((sequence) => ({
      ...sequence,
      ...(rows.has(sequence.slot) && { drafts: [], draftRow: rows.get(sequence.slot)! }),
    }));
    const sampled = [21, 121, 521, 621];
    const second = await rowsFor(unknown, { mode: 'draftNext', step: 2 }, groupRows, sampled);
    expect(second.pass).toEqual(twinOf(sequences, { mode: 'draft', step: 2 }, groupRows));
    expect([0, 1, 5, 6].map((slot) => second.field(slot, 'drafts'))).toEqual(sampled);
    expect([0, 5, 6].map((slot) => second.field(slot, 'draftRow'))).toEqual([0, 1, 2]);

    // The verify pass takes the last draft of the longest turns; it stands in row 1 for slot 6.
    const last = sequences.map((sequence) => {
      const { slot, drafts } = sequence;
      return slot === 0 || slot === 6
        ? { ...sequence, drafts: drafts.slice(0, 2), draftRow: slot === 0 ? 0 : 1 }
        : sequence;
    });
    const verify = await rowsFor(last, { mode: 'verify' }, groupRows, [23, 623]);
    expect(verify.pass).toEqual(twinOf(sequences, { mode: 'verify' }, groupRows));
    expect([0, 1, 4, 5, 6].map((slot) => verify.field(slot, 'firstRow'))).toEqual([0, 4, 6, 7, 8]);
    expect([0, 1, 4, 5, 6].map((slot) => verify.field(slot, 'draftCount'))).toEqual([3, 1, 0, 0, 3]);
  }
});

it('sequences that have ended have no rows', async () => {
  const ended = [0, 1].map((slot) => sequenceOf(slot, { draftLength: null, finish: 1 }));
  for (const source of [
    { mode: 'draftFirst' },
    { mode: 'draftNext', step: 2 },
    { mode: 'verify' },
    { mode: 'verifyFound' },
  ] as const) {
    expect((await rowsFor(ended, source, 2)).pass).toMatchObject({ rows: [], groups: [] });
  }
});
