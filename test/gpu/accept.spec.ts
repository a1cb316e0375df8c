import { expect, it } from 'vitest';
import { acceptStep } from '../../src/kernels/accept.ts';
import { parseRecord, RECORD_WORDS } from '../../src/speculative/record.ts';
import { stateFields, stateWords } from '../../src/speculative/sequence.ts';
import { accept, countDrafts } from '../reference/accept.ts';
import { createRandom } from '../reference/random.ts';
import { device, empty, readUints, run, words } from './kernel_bench.ts';

it('equals its twin on 60 random rounds: limits, stop tokens, the context end', async () => {
  const random = createRandom(7);
  for (let i = 0; i < 60; i++) {
    const k = random.integer(8);
    const targetTokens = Array.from({ length: k + 1 }, () => random.integer(3));
    const drafts = Array.from({ length: k }, (_, j) => (random.uniform() < 0.8 ? (targetTokens[j] as number) : 9));
    const n = 2 + random.integer(10);
    const contextLength = n + 1 + random.integer(10);
    const maxLength = Math.min(contextLength, n + 1 + random.integer(9));
    const stopTokenIds = random.uniform() < 0.3 ? [2] : [];
    const draftCount = countDrafts(k, n, contextLength);
    const state = new Uint32Array(stateWords);
    state.set([n, maxLength, contextLength, 0, 4, 3, n, n, n, draftCount, stopTokenIds.length]);
    state.set(drafts, stateFields.drafts);
    state.set(stopTokenIds, stateFields.stopTokens);
    const buffers = {
      targetTokens: words(targetTokens),
      state: words(state),
      history: empty(64),
      record: empty(RECORD_WORDS),
      adjustments: empty(2 * 16),
    };
    const step = await acceptStep(device(), buffers, {
      slot: 0,
      sequences: 1,
      historyStride: 64,
      targetStride: 0,
      vocabSize: 16,
      rejection: false,
    });
    run({ rows: 1, blocks: 1 }, step);
    const record = parseRecord(await readUints(buffers.record));
    const twin = accept(drafts, targetTokens, { committedLength: n, maxLength, contextLength, stopTokenIds });
    expect(record).toMatchObject({
      epoch: 4,
      roundIndex: 3,
      draftCount: twin.draftCount,
      acceptedCount: twin.acceptedCount,
      tokens: twin.tokens,
      finish: twin.finish,
      length: n + twin.tokens.length,
    });
    const history = await readUints(buffers.history);
    expect(Array.from(history.subarray(n, n + twin.tokens.length))).toEqual(twin.tokens);
    run({ rows: 1, blocks: 1 }, step);
    if (twin.finish !== null) expect(parseRecord(await readUints(buffers.record)).phase).toBe('noop');
  }
});
