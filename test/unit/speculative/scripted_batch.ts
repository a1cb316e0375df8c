/**
 * A batch for `createRequest` without a GPU: `decode` runs as it is, and what it submits is played here by a script.
 * The test must mock `src/gpu/submit.ts` with `submitPass` of this file (encoding needs a real device).
 */
import type { Gpu } from '../../../src/gpu/device.ts';
import type { Readback } from '../../../src/gpu/submit.ts';
import { MAX_TOP_LOGPROBS } from '../../../src/sampling_options.ts';
import type { Batch } from '../../../src/speculative/batch.ts';
import { LOGPROBS_BYTES, LOGPROBS_ROW_WORDS, type TokenIdLogprob } from '../../../src/speculative/logprobs.ts';
import { encodeRecord, RECORD_BYTES, RECORD_WORDS, type RoundRecord } from '../../../src/speculative/record.ts';
import { stateFields } from '../../../src/speculative/sequence.ts';
import type { Slot } from '../../../src/speculative/slots.ts';

export type Script = {
  /** The target's own choice at each place of the output; `filler` behind them. */
  tokens: readonly number[];
  filler: number;
  /** Rounds after the prefill; plain ones behind them. */
  rounds: readonly { draftCount: number; acceptedCount: number }[];
  roundsInFlight?: number;
  /** Called with each record's number, before its bytes can be read. */
  onRecord?: (count: number) => void;
  /** Damages a readback. */
  damage?: (words: Uint32Array) => void;
};

type ScriptedGpu = Gpu & { play: (label: string, readback?: Readback) => void };

export const submitPass = (gpu: Gpu, label: string, _encode: unknown, readback?: Readback): void =>
  (gpu as ScriptedGpu).play(label, readback);

/** What a GPU would say of the token at this place of the output. */
export function logprobOf(token: number, place: number, topCount: number): TokenIdLogprob {
  const top = Array.from({ length: topCount }, (_, rank) => ({ token: token + rank, logprob: -(place + rank) / 8 }));
  return { token, logprob: -place / 8, top };
}

/** The words that logprobs.wgsl would have written for these rows. */
export function encodeLogprobs(rows: readonly TokenIdLogprob[]): Uint32Array<ArrayBuffer> {
  const words = new Uint32Array(LOGPROBS_BYTES / 4);
  const floats = new Float32Array(words.buffer);
  for (const [row, { logprob, top }] of rows.entries()) {
    const start = row * LOGPROBS_ROW_WORDS;
    floats[start] = logprob;
    words.fill(0xffff_ffff, start + 1, start + 1 + MAX_TOP_LOGPROBS);
    for (const [rank, entry] of top.entries()) {
      words[start + 1 + rank] = entry.token;
      floats[start + 1 + MAX_TOP_LOGPROBS + rank] = entry.logprob;
    }
  }
  return words;
}

/** Plays one sequence by the rules of accept.wgsl; its limit and stop tokens are those that the host wrote to the state. */
export function scriptedBatch(script: Script): { batch: Batch; recordCount: () => number } {
  let state = new Uint32Array();
  let emittedCount = 0;
  let roundIndex = 0;
  let recordCount = 0;
  let finish: RoundRecord['finish'] = null;

  const nextRecord = (): { record: RoundRecord; rows: TokenIdLogprob[] } => {
    const promptLength = state[stateFields.promptLength]!;
    const stopTokens = [...state.subarray(stateFields.stopTokens)].slice(0, state[stateFields.stopTokenCount]);
    const common = { slot: 0, epoch: state[stateFields.epoch]!, roundIndex, nonFinite: false };
    if (finish !== null) {
      const nothing = { draftCount: 0, acceptedCount: 0, committedCount: 0, tokens: [] };
      return {
        record: { ...common, ...nothing, phase: 'noop', finish, length: promptLength + emittedCount },
        rows: [],
      };
    }
    const plain = { draftCount: 0, acceptedCount: 0 };
    const { draftCount, acceptedCount } = (roundIndex === 0 ? null : script.rounds[roundIndex - 1]) ?? plain;
    const tokens: number[] = [];
    const rows: TokenIdLogprob[] = [];
    for (let i = 0; i <= acceptedCount; i += 1) {
      const token = script.tokens[emittedCount + tokens.length] ?? script.filler;
      rows.push(logprobOf(token, emittedCount + tokens.length, Math.max(0, state[stateFields.logprobCount]! - 1)));
      tokens.push(token);
      if (stopTokens.includes(token)) finish = 'stop';
      else if (promptLength + emittedCount + tokens.length === state[stateFields.limit]) finish = 'length';
      if (finish !== null) break;
    }
    emittedCount += tokens.length;
    const phase = roundIndex === 0 ? 'prefill' : draftCount > 0 ? 'verify' : 'plain';
    const committed = { committedCount: tokens.length, length: promptLength + emittedCount, tokens };
    roundIndex += 1;
    return { record: { ...common, phase, finish, draftCount, acceptedCount, ...committed }, rows };
  };

  const slots = Array.from({ length: (script.roundsInFlight ?? 2) + 1 }, () => {
    const slot = {
      words: new Uint32Array(),
      mapAsync: async () => {},
      getMappedRange: (offset: number, size: number) => slot.words.buffer.slice(offset, offset + size),
      unmap: () => {},
    };
    return slot;
  });
  const gpu = {
    failed: new Promise(() => {}),
    failure: null,
    pokes: null,
    device: {
      queue: {
        writeBuffer(buffer: unknown, _offset: number, words: Uint32Array) {
          if (buffer === 'state' && words.length > 1) state = words.slice();
        },
      },
    },
    play(_label: string, readback?: Readback) {
      if (readback === undefined) return; // a part of the prefill
      const { record, rows } = nextRecord();
      const sizeBytes = readback.sources.reduce((sum, source) => sum + source.sizeBytes, 0);
      const words = new Uint32Array(sizeBytes / 4);
      words.set(encodeRecord(record));
      if (sizeBytes > RECORD_BYTES) words.set(encodeLogprobs(rows), RECORD_WORDS);
      script.damage?.(words);
      (readback.destination as unknown as { words: Uint32Array }).words = words;
      recordCount += 1;
      script.onRecord?.(recordCount);
    },
  };
  // Not by `createBatch`: to import it here would close a circle through the mock.
  const batch = {
    gpu,
    plan: { target: { rowCapacity: 64 }, draft: null },
    sequences: {
      state: 'state',
      history: 'history',
      historyStride: 1,
      contextLength: 1,
      vocabSize: 1,
      slots: 1,
      turns: [0],
    },
    ring: { slots, next: 0, sizeBytes: RECORD_BYTES + LOGPROBS_BYTES },
    roundsInFlight: script.roundsInFlight ?? 2,
    pace: { roundSubmits: () => 1, chunkSubmits: () => 1, observeChunk() {} },
    policy: null,
    chosen: null,
    slots: [{ epoch: 0, fed: { tokens: [], targetCount: 0, draftCount: 0 }, pages: [] } satisfies Slot],
    members: [],
    isRunning: false,
    onRound: null,
  };
  return { batch: batch as unknown as Batch, recordCount: () => recordCount };
}
