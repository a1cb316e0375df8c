/** The log-probabilities that logprobs.wgsl leaves behind the record of a round. */
import { DeviceError } from '../errors.ts';
import { MAX_TOP_LOGPROBS } from '../sampling_options.ts';
import type { Logprob } from '../types.ts';
import { type EmittedRecord, RECORD_TOKENS } from './record.ts';

/** What the GPU knows of a token; the tokenizer adds its text. */
type IdLogprob = Pick<Logprob, 'token' | 'logprob'>;
export type TokenIdLogprob = IdLogprob & { top: IdLogprob[] };

/** Words of a row: the emitted token's logprob, the ids of the most likely tokens, their logprobs. */
export const LOGPROBS_ROW_WORDS = 1 + 2 * MAX_TOP_LOGPROBS;
/** One row for each token of the record. */
export const LOGPROBS_BYTES = RECORD_TOKENS * LOGPROBS_ROW_WORDS * 4;
/** What the GPU writes where there is no token. */
const NO_TOKEN = 0xffff_ffff;
/** Rounding may lift the logprob of a certain token a little above 0. */
const TOLERANCE = 1e-3;

/**
 * One entry for each token of the record, with the `topCount` most likely ones in its place (fewer where the vocabulary
 * has fewer). Rows of a round without finite logits are noise.
 */
export function parseLogprobs(
  words: Uint32Array,
  { tokens, nonFinite }: EmittedRecord,
  topCount: number,
): TokenIdLogprob[] {
  if (words.byteLength !== LOGPROBS_BYTES) {
    throw new DeviceError(`Expected logprobs of ${LOGPROBS_BYTES} bytes, got ${words.byteLength}.`);
  }
  if (nonFinite) return [];
  const floats = new Float32Array(words.buffer, words.byteOffset, words.length);
  return tokens.map((token, row) => {
    const start = row * LOGPROBS_ROW_WORDS;
    const logprobAt = (index: number): number => {
      const logprob = floats[start + index]!;
      if (Number.isFinite(logprob) && logprob <= TOLERANCE) return Math.min(logprob, 0);
      throw impossibleLogprob(row, index, 'a finite number, at most 0', logprob);
    };
    const top: IdLogprob[] = [];
    for (let rank = 0; rank < topCount; rank += 1) {
      const id = words[start + 1 + rank]!;
      if (id === NO_TOKEN) break;
      if (top.some(({ token: other }) => other === id)) throw impossibleLogprob(row, 1 + rank, 'a token once', id);
      const logprob = logprobAt(1 + MAX_TOP_LOGPROBS + rank);
      if (rank > 0 && logprob > top[rank - 1]!.logprob) {
        throw impossibleLogprob(row, 1 + MAX_TOP_LOGPROBS + rank, 'no more than the one before', logprob);
      }
      top.push({ token: id, logprob });
    }
    return { token, logprob: logprobAt(0), top };
  });
}

function impossibleLogprob(row: number, word: number, expected: string, got: number): DeviceError {
  return new DeviceError(
    `Expected word ${word} of row ${row} of a round's logprobs to be ${expected}, got ${got}. ` +
      'The GPU wrote what no round can produce; report it together with `engine.info`.',
  );
}
