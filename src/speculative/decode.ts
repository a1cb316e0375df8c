import type { Gpu } from '../gpu/device.ts';
import { readWords, type StagingRing, takeSlot } from '../gpu/readback.ts';
import { submitPass } from '../gpu/submit.ts';
import { type EmittedRecord, parseRecord, RECORD_BYTES } from './record.ts';
import { encodePrefill, encodeRound, prefillChunks, type RoundPlan } from './round.ts';
import { type Sequences, startSequence } from './sequence.ts';

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

export type DecodeRequest = {
  promptTokens: readonly number[];
  /** Most committed tokens, prompt included. */
  limit: number;
  stopTokens: readonly number[];
  draftLength: number;
};

/**
 * Prefills and decodes one sequence, keeping `roundsInFlight` rounds submitted ahead of the record that is awaited.
 * Returns when the sequence has ended (or `isCancelled`) and every submitted round has drained, so that the next
 * sequence may use the same state. Records of rounds past the end are dropped here and enter nothing.
 */
export async function decode(
  decoder: Decoder,
  { promptTokens, limit, stopTokens, draftLength }: DecodeRequest,
  onRecord: (record: EmittedRecord) => void,
  isCancelled: () => boolean,
): Promise<void> {
  const { gpu, plan, sequences, ring, roundsInFlight } = decoder;
  decoder.epoch += 1;
  const { epoch } = decoder;
  const pending: Promise<Uint32Array>[] = [];
  const submit = (label: string, encode: (pass: GPUComputePassEncoder) => void): void => {
    const staging = takeSlot(ring);
    submitPass(gpu, label, encode, { source: plan.record, destination: staging, sizeBytes: RECORD_BYTES });
    const words = readWords(gpu, staging);
    words.catch(() => {}); // reported by the await below, or moot after an earlier failure
    pending.push(words);
  };

  startSequence(gpu, sequences, 0, { promptTokens, limit, stopTokens, epoch });
  const chunks = prefillChunks(promptTokens.length, plan.target.rowCapacity);
  for (const [i, chunk] of chunks.entries()) {
    const isLast = i === chunks.length - 1;
    const encode = (pass: GPUComputePassEncoder) =>
      encodePrefill(pass, plan, chunk, { withDraft: draftLength > 0, isLast });
    if (isLast) submit('prefill', encode);
    else submitPass(gpu, 'prefill', encode);
  }

  let length = promptTokens.length; // as of the newest record
  let ended = false;
  for (;;) {
    // Every pending round commits at least one token, so near the limit no round is submitted in vain.
    while (!ended && !isCancelled() && pending.length < roundsInFlight && length + pending.length < limit) {
      const lengthBound = length + pending.length * (draftLength + 1);
      submit('round', (pass) => encodeRound(pass, plan, draftLength, lengthBound));
    }
    const words = pending.shift();
    if (words === undefined) return;
    const record = parseRecord(await words);
    if (record.epoch !== epoch || record.phase === 'noop' || ended || isCancelled()) continue;
    length = record.length;
    ended = record.finish !== null;
    onRecord(record);
  }
}
