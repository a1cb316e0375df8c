import type { Gpu } from '../gpu/device.ts';
import type { Pass } from '../gpu/kernel.ts';
import { readWords, type StagingRing, takeSlot } from '../gpu/readback.ts';
import { gpuIdle, submitPass } from '../gpu/submit.ts';
import type { DraftLengthPolicy } from './draft_length.ts';
import { LOGPROBS_BYTES, parseLogprobs } from './logprobs.ts';
import {
  createMember,
  type DecodeEvents,
  type DecodeRequest,
  isDone,
  isFed,
  type Member,
  meanLength,
} from './member.ts';
import { createPace, type Pace } from './pace.ts';
import { type EmittedRecord, parseRecord, RECORD_BYTES, RECORD_WORDS } from './record.ts';
import {
  encodeCatchUp,
  encodeDraftPrefill,
  encodePrefill,
  encodeRound,
  longestDraft,
  prefillChunks,
  type RoundMode,
  type RoundPlan,
} from './round.ts';
import { roundSampling } from './sampler.ts';
import { type Sequences, setTurns, startSequence } from './sequence.ts';
import {
  type Caches,
  commonLength,
  createSlots,
  nothingFed,
  reusePrefix,
  type Slot,
  sharedLength,
  takePages as takeSlotPages,
  worthWaiting,
} from './slots.ts';

/** What decodes up to so many sequences in rounds that they share, each in a slot of its own. */
export type Batch = {
  gpu: Gpu;
  plan: RoundPlan;
  sequences: Sequences;
  /** Slots for the rounds in flight and one more: a slot is unmapped before the submit that reuses it. */
  ring: StagingRing;
  roundsInFlight: number;
  /** How rounds and chunks are cut on a slow device. */
  pace: Pace;
  /** What chooses k where a request leaves it open. */
  policy: DraftLengthPolicy | null;
  /** What the policy says next, asked before its round is there. */
  chosen: number | null;
  slots: Slot[];
  /** Sequences that run now, those that wait longest for a chunk of their prompt first. */
  members: Member[];
  isRunning: boolean;
  /** Told the records of each round, as they count. */
  onRound: ((records: EmittedRecord[]) => void) | null;
};

/** A member's part in a submitted round. */
type Part = {
  member: Member;
  draftLength: number;
  draftGap: number;
  /** Where its logprobs begin in the words that are read back, in bytes. */
  logprobsStart?: number;
};

/** Something submitted: a round, a prompt's last chunk (a round of one), or another chunk (of nobody). */
type Pending = {
  parts: Part[];
  firstSlot: number;
  /** The records from `firstSlot` on, then the logprobs of those parts that want them. */
  words: Promise<Uint32Array | null>;
  /** Whether `words` come when its work is done, and not before. */
  isAwaited: boolean;
  /** Whether its time is that of a round of one sequence and nothing else. */
  isTypical: boolean;
  /** Whether its time is that of so many rows of a prompt in the target, and nothing else. */
  chunkRows: number | null;
};

export function createBatch(
  gpu: Gpu,
  plan: RoundPlan,
  sequences: Sequences,
  { ring, roundsInFlight }: { ring: StagingRing; roundsInFlight: number },
): Batch {
  return {
    gpu,
    plan,
    sequences,
    ring,
    roundsInFlight,
    pace: createPace(null),
    policy: null,
    chosen: null,
    slots: createSlots(sequences.slots),
    members: [],
    isRunning: false,
    onRound: null,
  };
}

/** Bytes of a staging buffer for a round of so many slots. */
export const readbackBytes = (slots: number): number => slots * (RECORD_BYTES + LOGPROBS_BYTES);

/** Gives a slot its pages, of which the first `keptCount` hold what it left there. */
export function takePages(batch: Batch, slot: number, pages: readonly number[], keptCount: number): void {
  takeSlotPages(batch.gpu, cachesOf(batch), batch.slots, slot, pages, keptCount);
}

/** Forgets what the slots hold. */
export function forgetTokens({ slots }: Batch): void {
  for (const slot of slots) slot.fed = nothingFed;
}

const slotOf = ({ slots }: Batch, slot: number) => slots[slot] as Slot;

const cachesOf = ({ plan }: Batch): Caches => ({ target: plan.target.kvCache, draft: plan.draft?.kvCache ?? null });

/**
 * Prefills and decodes one sequence in rounds that it shares with those beside it, keeping `roundsInFlight` rounds
 * submitted ahead of the record that is awaited. Resolves when the sequence has ended (or `isCancelled`) and every round
 * that it is part of has drained, so that the next sequence may use its slot. Records of rounds past the end are dropped
 * here and enter nothing.
 */
export function decode(batch: Batch, slot: number, request: DecodeRequest, events: DecodeEvents): Promise<void> {
  return new Promise((resolve, reject) => {
    const leave = (failure: unknown): void => (failure === null ? resolve() : reject(failure));
    const mine = slotOf(batch, slot);
    mine.epoch += 1;
    batch.members.push(createMember(slot, mine.epoch, request, events, leave));
    if (batch.isRunning) return;
    batch.isRunning = true;
    void runRounds(batch);
  });
}

/** Takes what another left of its prompt, and divides the rest into chunks. */
function startFeeding(batch: Batch, member: Member): void {
  const { gpu, plan, sequences, policy, members } = batch;
  const { slot, epoch, request, tokens } = member;
  const fedLength = tokens.length;
  policy?.startSequence();
  const feedsDraft = plan.draft !== null && draftLengthOf(batch, request, members) > 0;
  const { targetFed, draftFed } = reusePrefix(gpu, cachesOf(batch), batch.slots, slot, tokens);
  startSequence(gpu, sequences, slot, epoch, { ...request, targetFed, draftFed });
  member.events.onStart(targetFed);
  const chunksOf = (model: 'target' | 'draft', from: number) =>
    prefillChunks(from, fedLength, plan.target.rowCapacity).map((chunk) => ({ model, chunk }));
  member.chunks = [...(feedsDraft ? chunksOf('draft', draftFed) : []), ...chunksOf('target', targetFed)];
  member.feedsSlowly = member.chunks.length > 2;
  member.draftGap = Math.max(0, fedLength - 1 - (feedsDraft ? fedLength : draftFed));
}

/** Whether another is being fed what this one begins with, so that it had better wait and take that. */
function waitsForPrefix(batch: Batch, { chunks, tokens }: Member): boolean {
  if (chunks !== null) return false;
  const held = Math.max(...batch.slots.map((slot) => sharedLength(slot, tokens)));
  const promised = batch.members
    .filter((other) => other.chunks !== null && !isFed(other) && !isDone(other))
    .map((other) => commonLength(other.tokens, tokens, tokens.length - 1));
  return Math.max(0, ...promised) >= held + worthWaiting;
}

/** What the next round of a request will draft among those that share it, as things stand. */
function draftLengthOf(batch: Batch, { draftLength }: DecodeRequest, sharing: readonly Member[]): number {
  if (draftLength !== 'auto') return draftLength;
  batch.chosen ??= batch.policy?.next(meanLength(sharing), sharing.length) ?? 0;
  return batch.chosen;
}

/** Submits and reads rounds until no sequence is left. Never rejects: a failure of the device is that of all members. */
async function runRounds(batch: Batch): Promise<void> {
  const { plan, members, roundsInFlight } = batch;
  const pending: Pending[] = [];
  /** Rows of prompts since the last round. */
  let fedRows = 0;
  let lastDoneAt: number | null = null;
  try {
    for (;;) {
      for (const member of members.filter((each) => isDone(each) && each.inFlight.length === 0)) {
        members.splice(members.indexOf(member), 1);
        member.leave(member.failure);
      }
      while (pending.length < roundsInFlight) {
        // Prompts and rounds take turns, so that neither waits for the other's end: between rounds, one chunk's rows.
        const feeding = members.find((member) => !isDone(member) && !isFed(member) && !waitsForPrefix(batch, member));
        if (feeding?.chunks === null) startFeeding(batch, feeding);
        // Every pending round commits at least one token, so near the limit no round is submitted in vain.
        const decoding = members.filter(
          (each) => !isDone(each) && isFed(each) && each.length + each.inFlight.length < each.request.limit,
        );
        const nextRows = feeding?.chunks?.[0]?.chunk.rows ?? 0;
        const mayFeed = decoding.length === 0 || fedRows === 0 || fedRows + nextRows <= plan.target.rowCapacity;
        if (feeding !== undefined && mayFeed) {
          pending.push(submitChunk(batch, feeding));
          fedRows += nextRows;
        } else if (decoding.length > 0) {
          pending.push(submitRound(batch, decoding));
          fedRows = 0;
        } else break;
      }
      const oldest = pending.shift();
      if (oldest === undefined) break;
      const words = await oldest.words;
      const now = performance.now();
      const ownMs = oldest.isAwaited && lastDoneAt !== null ? now - lastDoneAt : null;
      lastDoneAt = oldest.isAwaited ? now : null;
      if (oldest.chunkRows !== null && ownMs !== null) batch.pace.observeChunk(oldest.chunkRows, ownMs);
      if (words === null) continue;
      const roundMs = oldest.isTypical ? ownMs : null;
      const records = oldest.parts.map((part) => receive(batch, part, oldest.firstSlot, words, roundMs));
      batch.onRound?.(records.filter((record) => record !== null));
    }
  } catch (error) {
    for (const member of members) member.failure ??= error;
  }
  // At once: who is told may start the next sequence.
  batch.isRunning = false;
  for (const member of members.splice(0)) member.leave(member.failure);
}

/** Feeds a member the next chunk of its prompt. */
function submitChunk(batch: Batch, member: Member): Pending {
  const { gpu, plan, sequences, members } = batch;
  const { slot, mode, request } = member;
  const chunks = member.chunks as NonNullable<Member['chunks']>;
  const { model, chunk } = chunks.shift() as (typeof chunks)[number];
  const mine = slotOf(batch, slot);
  mine.fed = { ...mine.fed, [`${model}Count`]: chunk.start + chunk.rows };
  // The next chunk is another member's, if another has one.
  members.push(...members.splice(members.indexOf(member), 1));
  const roundMode = { sampling: mode, logprobs: request.logprobs };
  const submits = batch.pace.chunkSubmits(model, chunk.rows);
  if (chunks.length === 0) {
    setTurns(gpu, sequences, new Map([[slot, 0]]));
    const part = { member, draftLength: 0, draftGap: member.draftGap };
    const encode = (pass: Pass) => encodePrefill(pass, plan, slot, chunk, true, roundMode);
    return submitAnswered(batch, 'prefill', [part], encode, submits);
  }
  const encode = (pass: Pass) => {
    if (model === 'draft') encodeDraftPrefill(pass, plan, slot, chunk);
    else encodePrefill(pass, plan, slot, chunk, false, roundMode);
  };
  submitPass(gpu, `${model} prefill`, encode, undefined, submits);
  const isAwaited = member.feedsSlowly;
  const words = isAwaited ? gpuIdle(gpu).then(() => null) : Promise.resolve(null);
  words.catch(() => {}); // as below
  const chunkRows = model === 'target' ? chunk.rows : null;
  return { parts: [], firstSlot: 0, words, isAwaited, isTypical: false, chunkRows };
}

function submitRound(batch: Batch, decoding: readonly Member[]): Pending {
  const { gpu, plan, sequences } = batch;
  const most = longestDraft(decoding.length);
  let caughtUp = 0;
  const parts = decoding.map((member): Part & { gap: number; lengthBound: number } => {
    const draftLength = Math.min(most, draftLengthOf(batch, member.request, decoding));
    const gap = draftLength > 0 && plan.draft !== null ? member.draftGap : 0;
    caughtUp += gap;
    member.draftGap = draftLength > 0 ? 0 : member.draftGap + 1;
    const lengthBound = member.inFlight.reduce((sum, tokens) => sum + tokens, member.length);
    return { member, draftLength, draftGap: member.draftGap, gap, lengthBound };
  });
  batch.chosen = null;
  setTurns(gpu, sequences, new Map(parts.map(({ member, draftLength }) => [member.slot, draftLength])));
  const mode: RoundMode = {
    sampling: roundSampling(parts.map(({ member }) => member.mode)),
    logprobs: parts.some(({ member }) => member.request.logprobs),
  };
  const draftLengths = parts.map(({ draftLength }) => draftLength);
  const encode = (pass: Pass) => {
    for (const { member, gap, lengthBound } of parts) {
      if (gap > 0) encodeCatchUp(pass, plan, member.slot, gap, lengthBound);
    }
    encodeRound(pass, plan, draftLengths, Math.max(...parts.map(({ lengthBound }) => lengthBound)), mode);
  };
  const submits =
    batch.pace.roundSubmits(draftLengths, meanLength(decoding)) + batch.pace.chunkSubmits('draft', caughtUp) - 1;
  const pending = submitAnswered(batch, 'round', parts, encode, submits);
  return { ...pending, isTypical: parts.length === 1 && caughtUp === 0 && batch.members.length === 1 };
}

/** Submits what leaves a record for each of its parts, and starts to read these. */
function submitAnswered(
  { gpu, plan, ring }: Batch,
  label: string,
  parts: Part[],
  encode: (pass: Pass) => void,
  submits: number,
): Pending {
  const slots = parts.map(({ member }) => member.slot);
  const firstSlot = Math.min(...slots);
  let sizeBytes = (Math.max(...slots) - firstSlot + 1) * RECORD_BYTES;
  const sources = [{ buffer: plan.record, startBytes: firstSlot * RECORD_BYTES, sizeBytes }];
  for (const part of parts) {
    const { slot, request, inFlight } = part.member;
    inFlight.push(part.draftLength + 1);
    if (!request.logprobs) continue;
    sources.push({ buffer: plan.recordLogprobs, startBytes: slot * LOGPROBS_BYTES, sizeBytes: LOGPROBS_BYTES });
    part.logprobsStart = sizeBytes;
    sizeBytes += LOGPROBS_BYTES;
  }
  const destination = takeSlot(ring);
  submitPass(gpu, label, encode, { destination, sources }, submits);
  const words = readWords(gpu, destination, sizeBytes);
  words.catch(() => {}); // reported when it is awaited, or moot after an earlier failure
  return { parts, firstSlot, words, isAwaited: true, isTypical: false, chunkRows: null };
}

/** Hands a member its record of a round, and returns it as it counts. */
function receive(
  batch: Batch,
  { member, draftLength, draftGap, logprobsStart }: Part,
  firstSlot: number,
  words: Uint32Array,
  roundMs: number | null,
): EmittedRecord | null {
  const { slot, epoch, request, events, tokens } = member;
  member.inFlight.shift();
  if (isDone(member)) return null;
  try {
    const wordsAt = (start: number, count: number) => words.subarray(start, start + count);
    const record = parseRecord(wordsAt((slot - firstSlot) * RECORD_WORDS, RECORD_WORDS));
    if (record.epoch !== epoch || record.phase === 'noop') return null;
    if (record.phase !== 'prefill' && !record.nonFinite) {
      batch.policy?.observe({ ...record, draftLength, length: member.length, roundMs });
    }
    member.length = record.length;
    member.hasEnded = record.finish !== null;
    tokens.push(...record.tokens);
    const draftCount = Math.max(0, record.length - 2 - draftGap);
    slotOf(batch, slot).fed = { tokens, targetCount: record.length - 1, draftCount };
    const logprobs =
      logprobsStart === undefined
        ? null
        : parseLogprobs(wordsAt(logprobsStart / 4, LOGPROBS_BYTES / 4), record, request.topLogprobs);
    return events.onRecord(record, logprobs);
  } catch (error) {
    member.failure = error;
    return null;
  }
}
