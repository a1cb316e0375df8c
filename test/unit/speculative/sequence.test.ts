/** What a sequence starts from, after a lost device: as if its rounds had run on this one. */
import { expect, it } from 'vitest';
import type { Gpu } from '../../../src/gpu/device.ts';
import { greedySampling } from '../../../src/speculative/sampler.ts';
import { type Sequences, startSequence, stateFields } from '../../../src/speculative/sequence.ts';

it('emitted tokens are committed, count as output, and towards minNewTokens', () => {
  const written = new Map<string, Uint32Array>();
  const writeBuffer = (buffer: string, _offset: number, words: Uint32Array) => written.set(buffer, words);
  const gpu = { device: { queue: { writeBuffer } } } as unknown as Gpu;
  const buffers = { state: 'state', history: 'history', adjustments: 'adjustments' } as unknown as Sequences;
  const sequences = { ...buffers, historyStride: 64, contextLength: 56, vocabSize: 8, slots: 1, turns: [4] };
  startSequence(gpu, sequences, 0, 3, {
    promptTokens: [1, 2, 2],
    emittedTokens: [2, 5, 5],
    targetFed: 0,
    draftFed: 0,
    limit: 40,
    stopTokens: [],
    sampling: { ...greedySampling, frequencyPenalty: 1, minNewTokens: 5 },
    logprobs: true,
    topLogprobs: 0,
  });
  expect([...(written.get('history') as Uint32Array)]).toEqual([1, 2, 2, 2, 5, 5]);
  const state = written.get('state') as Uint32Array;
  expect(state[stateFields.length]).toBe(6);
  expect(state[stateFields.promptLength]).toBe(6); // all of it is fed
  expect(state[stateFields.limit]).toBe(40);
  expect(state[stateFields.minNewTokens]).toBe(2);
  expect(state[stateFields.logprobCount]).toBe(1);
  expect(state[stateFields.sampling]).toBe(1); // shaped
  expect([state[stateFields.turn], ...sequences.turns]).toEqual([0, 0]);
  const counts = (written.get('adjustments') as Uint32Array).filter((_, i) => i % 2 === 0);
  const promptBit = 0x8000_0000;
  expect([...counts]).toEqual([0, promptBit, promptBit + 1, 0, 0, 2, 0, 0]);
});
