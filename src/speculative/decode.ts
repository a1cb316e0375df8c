import type { Gpu } from '../gpu/device.ts';
import { readWords, type StagingRing, takeSlot } from '../gpu/readback.ts';
import { submitPass } from '../gpu/submit.ts';
import { LOGPROBS_BYTES, parseLogprobs, type TokenIdLogprob } from './logprobs.ts';
import { type EmittedRecord, parseRecord, RECORD_BYTES, RECORD_WORDS } from './record.ts';
import { encodePrefill, encodeRound, prefillChunks, type RoundMode, type RoundPlan } from './round.ts';
import { samplingMode } from './sampler.ts';
import { type SequenceStart, type Sequences, startSequence } from './sequence.ts';

/** What decodes one sequence at a time. */
export type Decoder = {
  gpu: Gpu;
  plan: RoundPlan;
  sequences: Sequences;
  /** Slots for the rounds in flight and one more: a slot is unmapped before the submit that reuses it. */
  ring: StagingRing;
  roundsInFlight: number;
  /** Counts sequences, so that a record of an earlier one is recognised. */
  epoch: number;
};

export type DecodeRequest = SequenceStart & {
  draftLength: number;
  logprobs: boolean;
};

/**
 * Prefills and decodes one sequence, keeping `roundsInFlight` rounds submitted ahead of the record that is awaited.
 * Returns when the sequence has ended (or `isCancelled`) and every submitted round has drained, so that the next
 * sequence may use the same state. Records of rounds past the end are dropped here and enter nothing.
 */
export async function decode(
  decoder: Decoder,
  request: DecodeRequest,
  onRecord: (record: EmittedRecord, logprobs: TokenIdLogprob[] | null) => void,
  isCancelled: () => boolean,
): Promise<void> {
  const { gpu, plan, sequences, ring, roundsInFlight } = decoder;
  const { promptTokens, limit, draftLength, logprobs, topLogprobs } = request;
  const mode: RoundMode = { sampling: samplingMode(request.sampling), logprobs };
  const sources = [{ buffer: plan.record, sizeBytes: RECORD_BYTES }];
  if (logprobs) sources.push({ buffer: plan.recordLogprobs, sizeBytes: LOGPROBS_BYTES });
  const readbackBytes = sources.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  decoder.epoch += 1;
  const { epoch } = decoder;
  const pending: Promise<Uint32Array>[] = [];
  const submit = (label: string, encode: (pass: GPUComputePassEncoder) => void): void => {
    const destination = takeSlot(ring);
    submitPass(gpu, label, encode, { destination, sources });
    const words = readWords(gpu, destination, readbackBytes);
    words.catch(() => {}); // reported by the await below, or moot after an earlier failure
    pending.push(words);
  };

  startSequence(gpu, sequences, 0, epoch, request);
  const chunks = prefillChunks(promptTokens.length, plan.target.rowCapacity);
  for (const [i, chunk] of chunks.entries()) {
    const isLast = i === chunks.length - 1;
    const encode = (pass: GPUComputePassEncoder) =>
      encodePrefill(pass, plan, chunk, { withDraft: draftLength > 0 && plan.draft !== null, isLast }, mode);
    if (isLast) submit('prefill', encode);
    else submitPass(gpu, 'prefill', encode);
  }

  let length = promptTokens.length; // as of the newest record
  let ended = false;
  for (;;) {
    // Every pending round commits at least one token, so near the limit no round is submitted in vain.
    while (!ended && !isCancelled() && pending.length < roundsInFlight && length + pending.length < limit) {
      const lengthBound = length + pending.length * (draftLength + 1);
      submit('round', (pass) => encodeRound(pass, plan, draftLength, lengthBound, mode));
    }
    const words = pending.shift();
    if (words === undefined) return;
    const received = await words;
    const record = parseRecord(received.subarray(0, RECORD_WORDS));
    if (record.epoch !== epoch || record.phase === 'noop' || ended || isCancelled()) continue;
    length = record.length;
    ended = record.finish !== null;
    onRecord(record, logprobs ? parseLogprobs(received.subarray(RECORD_WORDS), record, topLogprobs) : null);
  }
}
