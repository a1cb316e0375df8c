import type { Gpu } from '../gpu/device.ts';
import { readWords, type StagingRing, takeSlot } from '../gpu/readback.ts';
import { gpuIdle, submitPass } from '../gpu/submit.ts';
import { assignPages, blockSize } from '../model/kv_cache.ts';
import type { DraftLengthPolicy } from './draft_length.ts';
import { commonPrefix, type FedTokens, nothingFed } from './fed_tokens.ts';
import { LOGPROBS_BYTES, parseLogprobs, type TokenIdLogprob } from './logprobs.ts';
import { type EmittedRecord, parseRecord, RECORD_BYTES, RECORD_WORDS } from './record.ts';
import {
  encodeCatchUp,
  encodeDraftPrefill,
  encodePrefill,
  encodeRound,
  prefillChunks,
  type RoundMode,
  type RoundPlan,
} from './round.ts';
import { samplingMode } from './sampler.ts';
import { type SequenceStart, type Sequences, startSequence } from './sequence.ts';

/** What decodes one sequence at a time, in a slot of its own. */
export type Decoder = {
  gpu: Gpu;
  plan: RoundPlan;
  sequences: Sequences;
  /** Slots for the rounds in flight and one more: a slot is unmapped before the submit that reuses it. */
  ring: StagingRing;
  roundsInFlight: number;
  /** Counts sequences, so that a record of an earlier one is recognised. */
  epoch: number;
  /** What chooses k where a request leaves it open. */
  policy: DraftLengthPolicy | null;
  /** What the slot's pages hold since the last sequence. */
  fed: FedTokens;
  /** Sequences that run now, in any slot: beside others the time of a round says nothing. */
  running: { count: number };
};

/** Chunks of a prompt that are submitted ahead: what others submit meanwhile waits for no more than these. */
const chunksInFlight = 2;

export type DecodeRequest = Omit<SequenceStart, 'targetFed' | 'draftFed'> & {
  draftLength: number | 'auto';
  logprobs: boolean;
};

export type DecodeEvents = {
  /** The prompt's first tokens whose keys and values an earlier request left behind. */
  onStart(cachedTokens: number): void;
  onRecord(record: EmittedRecord, logprobs: TokenIdLogprob[] | null): void;
  isCancelled(): boolean;
};

/** Gives the decoder its pages, of which the first `keptCount` hold what it left there. */
export function takePages(decoder: Decoder, pages: readonly number[], keptCount: number): void {
  const { gpu, plan, fed } = decoder;
  for (const forward of [plan.target, plan.draft]) if (forward) assignPages(gpu, forward.kvCache, plan.slot, pages);
  const positions = keptCount * blockSize;
  decoder.fed = {
    tokens: fed.tokens,
    targetCount: Math.min(fed.targetCount, positions),
    draftCount: Math.min(fed.draftCount, positions),
  };
}

/** First tokens of a prompt that the decoder's first `pageCount` pages hold. */
export function sharedTokens({ fed }: Decoder, promptTokens: readonly number[], pageCount: number): number {
  return Math.min(pageCount * blockSize, commonPrefix(fed, promptTokens));
}

/** A submitted round, or the prefill. */
type Pending = {
  words: Promise<Uint32Array>;
  draftLength: number;
  /** Tokens, but for the last two, that the draft model will not have been fed after this round. */
  draftGap: number;
  /** Whether its time is that of a round of k drafts and nothing else. */
  isTypical: boolean;
};

/**
 * Prefills and decodes one sequence, keeping `roundsInFlight` rounds submitted ahead of the record that is awaited.
 * Returns when the sequence has ended (or `isCancelled`) and every submitted round has drained, so that the next
 * sequence may use the same state. Records of rounds past the end are dropped here and enter nothing.
 */
export async function decode(decoder: Decoder, request: DecodeRequest, events: DecodeEvents): Promise<void> {
  decoder.running.count += 1;
  try {
    await decodeSequence(decoder, request, events);
  } finally {
    decoder.running.count -= 1;
  }
}

async function decodeSequence(decoder: Decoder, request: DecodeRequest, events: DecodeEvents): Promise<void> {
  const { gpu, plan, sequences, ring, roundsInFlight } = decoder;
  const { limit, logprobs, topLogprobs } = request;
  /** Committed as far as is known; at first, what is fed before anything is decoded. */
  const tokens = [...request.promptTokens, ...request.emittedTokens];
  const fedLength = tokens.length;
  const mode: RoundMode = { sampling: samplingMode(request.sampling), logprobs };
  const policy = request.draftLength === 'auto' ? decoder.policy : null;
  const nextDraftLength = (): number => policy?.next() ?? (request.draftLength === 'auto' ? 0 : request.draftLength);
  const sources = [{ buffer: plan.record, sizeBytes: RECORD_BYTES }];
  if (logprobs) sources.push({ buffer: plan.recordLogprobs, sizeBytes: LOGPROBS_BYTES });
  const readbackBytes = sources.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  decoder.epoch += 1;
  const { epoch } = decoder;
  const pending: Pending[] = [];
  const submit = (
    label: string,
    round: Omit<Pending, 'words'>,
    encode: (pass: GPUComputePassEncoder) => void,
  ): void => {
    const destination = takeSlot(ring);
    submitPass(gpu, label, encode, { destination, sources });
    const words = readWords(gpu, destination, readbackBytes);
    words.catch(() => {}); // reported by the await below, or moot after an earlier failure
    pending.push({ ...round, words });
  };

  // The last token is always fed: the first new one comes from its row.
  const shared = commonPrefix(decoder.fed, tokens);
  const targetFed = Math.min(shared, fedLength - 1);
  let draftFed = Math.min(shared, decoder.fed.draftCount);
  decoder.fed = nothingFed;
  policy?.startSequence();
  let chosen: number | null = nextDraftLength();
  const feedsDraft = chosen > 0 && plan.draft !== null;
  startSequence(gpu, sequences, plan.slot, epoch, { ...request, targetFed, draftFed });
  events.onStart(targetFed);
  const chunks = prefillChunks(targetFed, fedLength, plan.target.rowCapacity);
  const draftChunks = feedsDraft ? prefillChunks(draftFed, fedLength, plan.target.rowCapacity) : [];
  const turn = createTurn(gpu, chunks.length + draftChunks.length);
  for (const chunk of draftChunks) {
    await turn();
    if (events.isCancelled()) return;
    submitPass(gpu, 'draft prefill', (pass) => encodeDraftPrefill(pass, plan, chunk));
  }
  if (feedsDraft) draftFed = fedLength;
  let draftGap = Math.max(0, fedLength - 1 - draftFed);
  for (const [i, chunk] of chunks.entries()) {
    await turn();
    if (events.isCancelled()) return;
    const isLast = i === chunks.length - 1;
    const encode = (pass: GPUComputePassEncoder) => encodePrefill(pass, plan, chunk, isLast, mode);
    if (isLast) submit('prefill', { draftLength: 0, draftGap, isTypical: false }, encode);
    else submitPass(gpu, 'prefill', encode);
  }

  let length = fedLength; // as of the newest record
  let lastRecordAt: number | null = null;
  let ended = false;
  for (;;) {
    // Every pending round commits at least one token, so near the limit no round is submitted in vain.
    while (!ended && !events.isCancelled() && pending.length < roundsInFlight && length + pending.length < limit) {
      const lengthBound = pending.reduce((sum, round) => sum + round.draftLength + 1, length);
      const k = chosen ?? nextDraftLength();
      chosen = null;
      const gap = k > 0 && plan.draft !== null ? draftGap : 0;
      draftGap = k > 0 ? 0 : draftGap + 1;
      submit('round', { draftLength: k, draftGap, isTypical: gap === 0 }, (pass) => {
        if (gap > 0) encodeCatchUp(pass, plan, gap, lengthBound);
        encodeRound(pass, plan, k, lengthBound, mode);
      });
    }
    const round = pending.shift();
    if (round === undefined) return;
    const received = await round.words;
    const record = parseRecord(received.subarray(0, RECORD_WORDS));
    if (record.epoch !== epoch || record.phase === 'noop' || ended || events.isCancelled()) continue;
    const now = performance.now();
    if (record.phase !== 'prefill' && !record.nonFinite) {
      const roundMs =
        round.isTypical && lastRecordAt !== null && decoder.running.count === 1 ? now - lastRecordAt : null;
      decoder.policy?.observe({ ...record, draftLength: round.draftLength, roundMs });
    }
    lastRecordAt = now;
    length = record.length;
    ended = record.finish !== null;
    tokens.push(...record.tokens);
    decoder.fed = { tokens, targetCount: length - 1, draftCount: Math.max(0, length - 2 - round.draftGap) };
    events.onRecord(record, logprobs ? parseLogprobs(received.subarray(RECORD_WORDS), record, topLogprobs) : null);
  }
}

/** Waits, where need be, until few enough of a prompt's chunks are under way for another. */
function createTurn(gpu: Gpu, chunkCount: number): () => Promise<void> {
  const underWay: Promise<void>[] = [];
  let isFirst = true;
  return async () => {
    if (chunkCount <= chunksInFlight) return;
    if (!isFirst) {
      const done = gpuIdle(gpu);
      done.catch(() => {}); // a lost device shows at the next map
      underWay.push(done);
    }
    isFirst = false;
    if (underWay.length >= chunksInFlight) await underWay.shift();
  };
}
