import { expect, it } from 'vitest';
import { ngramStep } from '../../src/kernels/ngram.ts';
import { stateFields, stateWords } from '../../src/speculative/sequence.ts';
import { ngramDrafts } from '../reference/ngram.ts';
import { createRandom } from '../reference/random.ts';
import { device, readUints, run, words } from './kernel_bench.ts';

it('equals its twin on 300 random histories: of few tokens, short and long, with and without a match', async () => {
  const random = createRandom(3);
  const sequences = 300;
  const historyStride = 900;
  const options = { draftLength: 5, shortest: 2, longest: 6 };
  const { shortest, longest } = options;
  const histories = Array.from({ length: sequences }, () => {
    const alphabet = 2 + random.integer(60);
    return Array.from({ length: 2 + random.integer(800) }, () => random.integer(alphabet));
  });
  histories[0] = [7, 7, 7, 7]; // overlaps itself
  histories[1] = [1, 2];
  const state = new Uint32Array(sequences * stateWords);
  const history = new Uint32Array(sequences * historyStride).fill(1); // what lies behind the end is no match
  for (const [i, tokens] of histories.entries()) {
    state[i * stateWords + stateFields.length] = tokens.length;
    state[i * stateWords + stateFields.draftCount] = 9;
    state[i * stateWords + stateFields.turn] = options.draftLength + 1;
    history.set(tokens, i * historyStride);
  }
  state[2 * stateWords + stateFields.finish] = 1;
  // One sits out, one decodes plainly, one has a shorter round.
  state[3 * stateWords + stateFields.turn] = 0;
  state[4 * stateWords + stateFields.turn] = 1;
  state[5 * stateWords + stateFields.turn] = 3;
  const buffers = { history: words(history), state: words(state) };
  run(
    { rows: 1, blocks: 1 },
    await ngramStep(device(), buffers, { slots: sequences, historyStride, shortest, longest }),
  );
  const got = await readUints(buffers.state);
  let matches = 0;
  for (const [i, tokens] of histories.entries()) {
    const fields = got.subarray(i * stateWords, (i + 1) * stateWords);
    const count = fields[stateFields.draftCount] as number;
    if (i >= 2 && i <= 4) {
      expect(count).toBe(9); // stays as it is
      continue;
    }
    const drafts = Array.from(fields.subarray(stateFields.drafts, stateFields.drafts + count));
    const twin = ngramDrafts(tokens, { ...options, draftLength: i === 5 ? 2 : options.draftLength });
    expect({ i, drafts }).toEqual({ i, drafts: twin });
    if (twin.length > 0) matches += 1;
  }
  expect(matches).toBeGreaterThan(100);
  expect(matches).toBeLessThan(290);
});
