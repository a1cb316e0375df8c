import { expect, it } from 'vitest';
import { rejectStep } from '../../src/kernels/reject.ts';
import { stateFields, stateWords } from '../../src/speculative/sequence.ts';
import { reject } from '../reference/reject.ts';
import { device, readUints, run, words } from './kernel_bench.ts';
import { randomRounds, uploadRounds } from './rounds_bench.ts';
import { stateOf } from './sampling_bench.ts';

/** u · p_draft against p_target, relative: nearer than this rounding may decide. */
const clearMargin = 1e-5;

it.each([
  [64, 64, 2000],
  [256, 256, 500],
  [300, 256, 300],
  [256, 300, 300],
])(
  'target %i, draft %i logits: %i random rounds accept as the twin does',
  async (targetVocabSize, draftVocabSize, count) => {
    const rounds = randomRounds(count, { targetVocabSize, draftVocabSize });
    const state = words(stateOf(rounds.sequences));
    run({ rows: 1, blocks: 1 }, await rejectStep(device(), { ...uploadRounds(rounds), state }, rounds.shape));
    const got = await readUints(state);
    const acceptedCounts = new Set<number>();
    let unclear = 0;
    rounds.sequences.forEach(({ drafts, seed, length }, i) => {
      const twin = reject(drafts, rounds.targetRows[i]!, rounds.draftRows[i]!, seed, length);
      acceptedCounts.add(twin.acceptedCount);
      if (twin.margin < clearMargin) unclear++;
      else expect(got[i * stateWords + stateFields.acceptedCount], `sequence ${i}`).toBe(twin.acceptedCount);
    });
    expect([...acceptedCounts].sort()).toEqual([0, 1, 2, 3, 4]);
    expect(unclear).toBeLessThan(3);
  },
);

it('the prefill accepts nothing; sequences that ended, sit out or have a seed are left alone', async () => {
  const rounds = randomRounds(60, { targetVocabSize: 64, draftVocabSize: 64 });
  const before = stateOf(rounds.sequences);
  const at = (slot: number, field: keyof typeof stateFields) => slot * stateWords + stateFields[field];
  for (let slot = 0; slot < 60; slot++) {
    before[at(slot, 'acceptedCount')] = 77;
    if (slot % 5 === 1) before[at(slot, 'roundIndex')] = 0;
    if (slot % 5 === 2) before[at(slot, 'finish')] = 1;
    if (slot % 5 === 3) before[at(slot, 'turn')] = 0;
    if (slot % 5 === 4) before[at(slot, 'sampling')] = slot % 3;
  }
  const state = words(before);
  run({ rows: 1, blocks: 1 }, await rejectStep(device(), { ...uploadRounds(rounds), state }, rounds.shape));
  const got = await readUints(state);
  for (let slot = 0; slot < 60; slot++) {
    const { drafts, seed, length } = rounds.sequences[slot]!;
    let expected = 77;
    if (slot % 5 === 0) {
      expected = reject(drafts, rounds.targetRows[slot]!, rounds.draftRows[slot]!, seed, length).acceptedCount;
    } else if (slot % 5 === 1) expected = 0;
    expect(got[at(slot, 'acceptedCount')], `slot ${slot}`).toBe(expected);
    got[at(slot, 'acceptedCount')] = 77;
  }
  expect(got).toEqual(before);
});
