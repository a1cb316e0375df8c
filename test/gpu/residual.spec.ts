import { expect, it } from 'vitest';
import { chunksOf } from '../../src/kernels/argmax.ts';
import { argmaxFoldStep } from '../../src/kernels/argmax_fold.ts';
import { residualStep } from '../../src/kernels/residual.ts';
import { stateFields, stateWords } from '../../src/speculative/sequence.ts';
import { noToken } from '../reference/argmax.ts';
import { residual } from '../reference/residual.ts';
import { probability } from '../reference/threshold.ts';
import { device, empty, readUints, run, words } from './kernel_bench.ts';
import { type RandomRounds, randomRounds, uploadRounds } from './rounds_bench.ts';
import { rowsInSlots, stateOf } from './sampling_bench.ts';

const clearMargin = 1e-4;

async function residualsOf(rounds: RandomRounds, state: Uint32Array): Promise<number[]> {
  const { slots, targetVocabSize: vocabSize } = rounds.shape;
  const rows = rowsInSlots([{ slot: 0, position: 0 }]);
  const candidates = empty(slots * chunksOf(vocabSize) * 2);
  const sampled = empty(slots);
  run(
    { rows: slots, blocks: 1 },
    await residualStep(device(), { ...uploadRounds(rounds), state: words(state), candidates }, rounds.shape),
    await argmaxFoldStep(device(), { rows, candidates, sampled }, { vocabSize }),
  );
  return [...(await readUints(sampled)).subarray(0, slots)];
}

it.each([
  [64, 64, 2000],
  [256, 256, 500],
  [300, 256, 200],
  [1500, 1600, 100],
])(
  'target %i, draft %i logits: %i random rounds go on as the twin does',
  async (targetVocabSize, draftVocabSize, count) => {
    const rounds = randomRounds(count, { targetVocabSize, draftVocabSize });
    const state = stateOf(rounds.sequences);
    const acceptedCounts = rounds.sequences.map(({ drafts }, i) => {
      const acceptedCount = i % (drafts.length + 1);
      state[i * stateWords + stateFields.acceptedCount] = acceptedCount;
      return acceptedCount;
    });
    const got = await residualsOf(rounds, state);
    let unclear = 0;
    rounds.sequences.forEach(({ drafts, seed, length }, i) => {
      const [targetRows, draftRows] = [rounds.targetRows[i]!, rounds.draftRows[i]!];
      const draw = residual(drafts, acceptedCounts[i]!, targetRows, draftRows, seed, length);
      if (draw.margin < clearMargin) unclear++;
      else expect(got[i], `sequence ${i}`).toBe(draw.token);
      // Clear or not, it is a token of the target's.
      const { warped, distribution } = targetRows[acceptedCounts[i]!]!;
      expect(probability(warped, distribution, got[i]!)).toBeGreaterThan(0);
    });
    expect(unclear).toBeLessThan(2 + count / 200);
  },
);

it('the prefill has no drafts; without a finite logit there is no token', async () => {
  const rounds = randomRounds(40, { targetVocabSize: 64, draftVocabSize: 64 });
  const state = stateOf(rounds.sequences);
  for (let slot = 0; slot < 40; slot += 2) state[slot * stateWords + stateFields.roundIndex] = 0;
  for (let slot = 0; slot < 40; slot += 3) {
    for (const row of rounds.targetRows[slot]!) {
      row.warped.fill(Number.NaN);
      row.distribution.sum = 0;
    }
  }
  const got = await residualsOf(rounds, state);
  rounds.sequences.forEach(({ drafts, seed, length }, slot) => {
    const counted = slot % 2 === 0 ? [] : drafts;
    const draw = residual(counted, 0, rounds.targetRows[slot]!, rounds.draftRows[slot]!, seed, length);
    expect(got[slot], `slot ${slot}`).toBe(slot % 3 === 0 ? noToken : draw.token);
  });
});
