/** Records for tests: single ones by hand, and whole requests as an honest GPU would write them. */
import fc from 'fast-check';
import type { EmittedRecord, NoopRecord, RoundRecord } from '../../../src/speculative/record.ts';

export const prefill = (over: Partial<EmittedRecord> = {}): EmittedRecord => ({
  slot: 0,
  epoch: 1,
  roundIndex: 0,
  phase: 'prefill',
  nonFinite: false,
  finish: null,
  draftCount: 0,
  acceptedCount: 0,
  committedCount: 1,
  length: 6,
  tokens: [9],
  ...over,
});

/** A round that drafted draftCount tokens (0: plain) and committed all that was accepted, plus the bonus token. */
export function decode(draftCount: number, acceptedCount: number, over: Partial<EmittedRecord> = {}): EmittedRecord {
  return {
    ...prefill(),
    roundIndex: 1,
    phase: draftCount > 0 ? 'verify' : 'plain',
    draftCount,
    acceptedCount,
    committedCount: acceptedCount + 1,
    length: 20 + acceptedCount,
    tokens: Array.from({ length: acceptedCount + 1 }, (_, i) => 10 + i),
    ...over,
  };
}

export const noop = (over: Partial<NoopRecord> = {}): NoopRecord => ({
  ...prefill(),
  roundIndex: 7,
  phase: 'noop',
  committedCount: 0,
  tokens: [],
  ...over,
});

export type SimulatedRequest = {
  records: RoundRecord[];
  /** What a reader of the text sees, counted token by token and not from the records' counts. */
  emitted: number[];
  /** Tokens that rounds had agreed on and that fell behind the end, counted one by one. */
  truncated: number;
  maxDraftLength: number;
};

const STOP_TOKEN = 2;

/**
 * Plays one request: every round proposes some drafts, the target agrees with some, tokens are committed one at a time
 * until a stop token or the length limit; rounds already in flight then arrive as no-ops.
 */
export const simulatedRequest: fc.Arbitrary<SimulatedRequest> = fc
  .record({
    slot: fc.nat(3),
    epoch: fc.nat(1000),
    promptLength: fc.integer({ min: 1, max: 50 }),
    maxNewTokens: fc.integer({ min: 1, max: 60 }),
    stopEvery: fc.integer({ min: 3, max: 60 }),
    lateRounds: fc.nat(3),
    rounds: fc.array(
      fc.record({
        draftCount: fc.integer({ min: 0, max: 7 }),
        agree: fc.integer({ min: 0, max: 7 }),
        seeds: fc.array(fc.nat(1000), { minLength: 8, maxLength: 8 }),
      }),
      { minLength: 1, maxLength: 25 },
    ),
  })
  .map(({ slot, epoch, promptLength, maxNewTokens, stopEvery, lateRounds, rounds }) => {
    const records: RoundRecord[] = [];
    const emitted: number[] = [];
    let truncated = 0;
    let finish: RoundRecord['finish'] = null;
    let maxDraftLength = 0;
    for (const [roundIndex, round] of rounds.entries()) {
      if (finish !== null) break;
      const draftCount = roundIndex === 0 ? 0 : round.draftCount;
      maxDraftLength = Math.max(maxDraftLength, draftCount);
      const acceptedCount = Math.min(draftCount, round.agree);
      const tokens: number[] = [];
      for (const seed of round.seeds.slice(0, acceptedCount + 1)) {
        if (finish !== null) {
          truncated += 1;
          continue;
        }
        const token = seed % stopEvery === 0 ? STOP_TOKEN : seed + 3;
        tokens.push(token);
        emitted.push(token);
        if (token === STOP_TOKEN) finish = 'stop';
        else if (emitted.length === maxNewTokens) finish = 'length';
      }
      records.push({
        slot,
        epoch,
        roundIndex,
        phase: roundIndex === 0 ? 'prefill' : draftCount > 0 ? 'verify' : 'plain',
        nonFinite: false,
        finish,
        draftCount,
        acceptedCount,
        committedCount: tokens.length,
        length: promptLength + emitted.length,
        tokens,
      });
    }
    if (finish !== null) {
      for (let i = 0; i < lateRounds; i += 1) {
        const length = promptLength + emitted.length;
        records.push(noop({ slot, epoch, roundIndex: records.length, finish, length }));
      }
    }
    return { records, emitted, truncated, maxDraftLength };
  });
