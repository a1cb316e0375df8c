/**
 * The record that the GPU leaves behind for each sequence and round: the only thing read back while generating.
 * The struct `RoundRecord` of the shaders follows this table; a record that breaks its own invariants is a bug in a
 * kernel (or memory gone bad), and is refused here before it can reach a statistic or a text.
 */
import { DeviceError } from '../errors.ts';
import { MAX_DRAFT_LENGTH } from '../options.ts';
import type { RoundPhase } from '../types.ts';

/** u32 words of one record. */
export const RECORD_WORDS = 16;
export const RECORD_BYTES = RECORD_WORDS * 4;
/** Tokens of one record: the drafts of the longest round and the bonus token. */
export const RECORD_TOKENS = MAX_DRAFT_LENGTH + 1;

/** Word index of each field, in the order of the WGSL struct. */
export const RECORD_FIELDS = {
  slot: 0,
  epoch: 1,
  roundIndex: 2,
  flags: 3,
  draftCount: 4,
  acceptedCount: 5,
  committedCount: 6,
  length: 7,
  tokens: 8,
} as const;

/** Bits of the word `flags`. */
export const RECORD_FLAGS = {
  /** A round after the sequence was done: it enters nothing. */
  noop: 1 << 0,
  /** A row of logits had no finite maximum. */
  nonFinite: 1 << 1,
  prefill: 1 << 2,
} as const;

/** The finish code is `(flags >> FINISH_SHIFT) & FINISH_MASK`. */
export const FINISH_SHIFT = 8;
export const FINISH_MASK = 0xf;
export const FINISH_CODES = { running: 0, stop: 1, length: 2 } as const;

const KNOWN_FLAG_BITS =
  RECORD_FLAGS.noop | RECORD_FLAGS.nonFinite | RECORD_FLAGS.prefill | (FINISH_MASK << FINISH_SHIFT);

type RecordFields = {
  slot: number;
  epoch: number;
  /** 0 for the prefill, then counting up. */
  roundIndex: number;
  nonFinite: boolean;
  /** How the sequence stands after this round; null while it goes on. */
  finish: null | 'stop' | 'length';
  /** Drafts proposed and verified in this round, 0..7. */
  draftCount: number;
  /** Drafts that the target agreed with, 0..draftCount, before any truncation; the bonus token is not counted. */
  acceptedCount: number;
  /** Tokens appended after truncation at a stop token or a length limit. */
  committedCount: number;
  /** Committed tokens of the sequence after this round, the prompt included. */
  length: number;
  /** The committedCount emitted tokens: accepted drafts, then the bonus token, unless truncated. */
  tokens: number[];
};

/** A round that emitted something. */
export type EmittedRecord = RecordFields & { phase: RoundPhase };
/** A round after the sequence was done. Its counts are 0 and its tokens are empty. */
export type NoopRecord = RecordFields & { phase: 'noop' };
export type RoundRecord = EmittedRecord | NoopRecord;

function impossible(field: keyof typeof RECORD_FIELDS, expected: string, got: number): DeviceError {
  return new DeviceError(
    `Expected word ${RECORD_FIELDS[field]} (${field}) of a round record to be ${expected}, got ${got}. ` +
      'The GPU wrote what no round can produce; report it together with `engine.info`.',
  );
}

function parseFinish(flags: number): RoundRecord['finish'] {
  const code = (flags >>> FINISH_SHIFT) & FINISH_MASK;
  if (code === FINISH_CODES.running) return null;
  if (code === FINISH_CODES.stop) return 'stop';
  if (code === FINISH_CODES.length) return 'length';
  throw impossible('flags', `a finish code of 0, 1 or 2 in bits ${FINISH_SHIFT}..${FINISH_SHIFT + 3}`, flags);
}

/** Reads one record (RECORD_WORDS words) and checks that a round could have written it. */
export function parseRecord(words: Uint32Array): RoundRecord {
  if (words.length !== RECORD_WORDS) {
    throw new DeviceError(`Expected a round record of ${RECORD_WORDS} words, got ${words.length}.`);
  }
  const word = (field: keyof typeof RECORD_FIELDS): number => words[RECORD_FIELDS[field]]!;

  const flags = word('flags');
  if ((flags & ~KNOWN_FLAG_BITS) !== 0) throw impossible('flags', 'made of bits 0..2 and 8..11 only', flags);
  const finish = parseFinish(flags);
  const nonFinite = (flags & RECORD_FLAGS.nonFinite) !== 0;
  const isPrefill = (flags & RECORD_FLAGS.prefill) !== 0;
  const common = {
    slot: word('slot'),
    epoch: word('epoch'),
    roundIndex: word('roundIndex'),
    nonFinite,
    finish,
    length: word('length'),
  };
  // The counts of a no-op are not looked at: such a round may leave early and write nothing but its header.
  if ((flags & RECORD_FLAGS.noop) !== 0) {
    return { ...common, phase: 'noop', draftCount: 0, acceptedCount: 0, committedCount: 0, tokens: [] };
  }

  const draftCount = word('draftCount');
  const acceptedCount = word('acceptedCount');
  const committedCount = word('committedCount');
  if (isPrefill !== (common.roundIndex === 0)) {
    throw impossible('roundIndex', isPrefill ? '0 in a prefill' : '1 or more after the prefill', common.roundIndex);
  }
  if (draftCount > MAX_DRAFT_LENGTH) throw impossible('draftCount', `0 to ${MAX_DRAFT_LENGTH}`, draftCount);
  if (isPrefill && draftCount !== 0) throw impossible('draftCount', '0 in a prefill', draftCount);
  if (acceptedCount > draftCount) {
    throw impossible('acceptedCount', `0 to ${draftCount} (draftCount)`, acceptedCount);
  }
  // A round without a finite maximum chose no tokens that anyone will see, so it need not have committed any.
  const fewest = nonFinite ? 0 : finish === null ? acceptedCount + 1 : 1;
  if (committedCount < fewest || committedCount > acceptedCount + 1) {
    const range =
      fewest === acceptedCount + 1
        ? `${fewest} (acceptedCount + 1${finish === null ? ', as the sequence goes on' : ''})`
        : `${fewest} to ${acceptedCount + 1} (acceptedCount + 1)`;
    throw impossible('committedCount', range, committedCount);
  }
  // The prompt has at least one token, and after the prefill so has the output.
  const before = isPrefill ? 1 : 2;
  if (!nonFinite && common.length < before + committedCount) {
    throw impossible('length', `at least ${before + committedCount} (prompt and committed tokens)`, common.length);
  }

  return {
    ...common,
    phase: isPrefill ? 'prefill' : draftCount > 0 ? 'verify' : 'plain',
    draftCount,
    acceptedCount,
    committedCount,
    tokens: Array.from(words.subarray(RECORD_FIELDS.tokens, RECORD_FIELDS.tokens + committedCount)),
  };
}

/** The record as if its round had ended the request with its first `tokenCount` tokens: what was accepted stays. */
export function cutRecord(record: EmittedRecord, tokenCount: number): EmittedRecord {
  return {
    ...record,
    finish: 'stop',
    committedCount: tokenCount,
    length: record.length - record.committedCount + tokenCount,
    tokens: record.tokens.slice(0, tokenCount),
  };
}

/** The words that a GPU would have written for this record; tokens past the committed ones are 0. */
export function encodeRecord(record: RoundRecord): Uint32Array<ArrayBuffer> {
  const words = new Uint32Array(RECORD_WORDS);
  words[RECORD_FIELDS.slot] = record.slot;
  words[RECORD_FIELDS.epoch] = record.epoch;
  words[RECORD_FIELDS.roundIndex] = record.roundIndex;
  words[RECORD_FIELDS.flags] =
    (record.phase === 'noop' ? RECORD_FLAGS.noop : 0) |
    (record.nonFinite ? RECORD_FLAGS.nonFinite : 0) |
    (record.phase === 'prefill' ? RECORD_FLAGS.prefill : 0) |
    (FINISH_CODES[record.finish ?? 'running'] << FINISH_SHIFT);
  words[RECORD_FIELDS.draftCount] = record.draftCount;
  words[RECORD_FIELDS.acceptedCount] = record.acceptedCount;
  words[RECORD_FIELDS.committedCount] = record.committedCount;
  words[RECORD_FIELDS.length] = record.length;
  words.set(record.tokens.slice(0, RECORD_TOKENS), RECORD_FIELDS.tokens);
  return words;
}
