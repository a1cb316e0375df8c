/** What the sampling specs share: many sequences at once, each with a seed of its own, and their rows. */
import {
  hasAdjustments,
  type SamplingMode,
  samplingModes,
  stateFields,
  stateWords,
} from '../../src/speculative/sequence.ts';
import type { Seed } from '../reference/threefry.ts';
import { noWarping, type SamplingOptions } from '../reference/warp.ts';
import { words } from './kernel_bench.ts';

/** A running sequence, as far as sampling reads it. */
export type Sequence = {
  seed: Seed;
  promptLength: number;
  /** Committed tokens. */
  length: number;
  drafts: readonly number[];
  options: SamplingOptions;
  mode: SamplingMode;
  /** Of the target's rows, and of the draft's distributions. */
  firstRow: number;
  firstDraftRow: number;
};

export const newSequence = (given: Partial<Sequence> = {}): Sequence => ({
  seed: [1, 2],
  promptLength: 4,
  length: 9,
  drafts: [],
  options: noWarping,
  mode: 'random',
  firstRow: 0,
  firstDraftRow: 0,
  ...given,
});

/** Room for the longest of these sequences. */
const contextLength = 1024;

/** (slots,) SequenceState, running, past the prefill, each with a turn. */
export function stateOf(sequences: readonly Sequence[]): Uint32Array<ArrayBuffer> {
  const state = new Uint32Array(sequences.length * stateWords);
  const floats = new Float32Array(state.buffer);
  sequences.forEach(({ seed, promptLength, length, drafts, options, mode, firstRow, firstDraftRow }, slot) => {
    const set = (field: keyof typeof stateFields, value: number) => {
      state[slot * stateWords + stateFields[field]] = value;
    };
    const setFloat = (field: keyof typeof stateFields, value: number) => {
      floats[slot * stateWords + stateFields[field]] = value;
    };
    set('length', length);
    set('limit', contextLength);
    set('contextLength', contextLength);
    set('epoch', 1);
    set('roundIndex', 1);
    set('promptLength', promptLength);
    set('draftCount', drafts.length);
    state.set(drafts, slot * stateWords + stateFields.drafts);
    set('stopTokenCount', options.stopTokenIds.length);
    state.set(options.stopTokenIds, slot * stateWords + stateFields.stopTokens);
    setFloat('inverseTemperature', options.temperature > 0 ? 1 / options.temperature : 1);
    set('topK', options.topK);
    setFloat('topP', options.topP);
    setFloat('minP', options.minP);
    set('seedLow', seed[0]);
    set('seedHigh', seed[1]);
    setFloat('repetitionPenalty', options.repetitionPenalty);
    setFloat('presencePenalty', options.presencePenalty);
    setFloat('frequencyPenalty', options.frequencyPenalty);
    set('minNewTokens', options.minNewTokens);
    set('hasAdjustments', Number(hasAdjustments({ ...options, seed: null })));
    set('sampling', samplingModes.indexOf(mode));
    set('turn', 8);
    set('firstRow', firstRow);
    set('firstDraftRow', firstDraftRow);
  });
  return state;
}

/** A Rows buffer of rows in several slots. `position` is that of the row: the token sampled from it stands one further. */
export function rowsInSlots(rows: readonly { slot: number; position: number }[], firstOutputRow = 0): GPUBuffer {
  const header = [rows.length, firstOutputRow, 0, 0];
  return words([...header, ...rows.flatMap(({ slot, position }) => [0, slot, position, 0])]);
}
