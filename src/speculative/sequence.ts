import { createStorage } from '../gpu/buffers.ts';
import type { Gpu } from '../gpu/device.ts';
import { spareRows } from '../model/kv_cache.ts';

/** Word index of each field of `SequenceState` (shaders/lib/state.wgsl). */
export const stateFields = {
  length: 0,
  limit: 1,
  contextLength: 2,
  finish: 3,
  epoch: 4,
  roundIndex: 5,
  promptLength: 6,
  targetPrefilled: 7,
  draftPrefilled: 8,
  draftCount: 9,
  stopTokenCount: 10,
  drafts: 12,
  stopTokens: 20,
} as const;
export const stateWords = 36;

/** Most end-of-sequence tokens that the GPU compares with. */
export const maxStopTokens = 16;

/** Where the sequences live: their state and their committed tokens. */
export type Sequences = {
  state: GPUBuffer; // (slots,) SequenceState
  history: GPUBuffer; // (slots, contextLength + 8) u32
  historyStride: number;
  contextLength: number;
};

export function createSequences(
  gpu: Gpu,
  { slots, contextLength }: { slots: number; contextLength: number },
): Sequences {
  const historyStride = contextLength + spareRows;
  return {
    state: createStorage(gpu, 'sequence state', slots * stateWords * 4),
    history: createStorage(gpu, 'history', slots * historyStride * 4),
    historyStride,
    contextLength,
  };
}

/** Starts a sequence in `slot`: writes its prompt and a fresh state behind all work submitted so far. */
export function startSequence(
  gpu: Gpu,
  { state, history, historyStride, contextLength }: Sequences,
  slot: number,
  {
    promptTokens,
    limit,
    stopTokens,
    epoch,
  }: { promptTokens: readonly number[]; limit: number; stopTokens: readonly number[]; epoch: number },
): void {
  const words = new Uint32Array(stateWords);
  words[stateFields.length] = promptTokens.length;
  words[stateFields.limit] = limit;
  words[stateFields.contextLength] = contextLength;
  words[stateFields.epoch] = epoch;
  words[stateFields.promptLength] = promptTokens.length;
  words[stateFields.stopTokenCount] = stopTokens.length;
  words.set(stopTokens, stateFields.stopTokens);
  gpu.device.queue.writeBuffer(history, slot * historyStride * 4, Uint32Array.from(promptTokens));
  gpu.device.queue.writeBuffer(state, slot * stateWords * 4, words);
}
