import type { TokenIdLogprob } from './logprobs.ts';
import type { EmittedRecord } from './record.ts';
import type { PrefillChunk } from './round.ts';
import { type SamplingMode, type SequenceStart, samplingMode } from './sequence.ts';

export type DecodeRequest = Omit<SequenceStart, 'targetFed' | 'draftFed'> & { draftLength: number | 'auto' };

export type DecodeEvents = {
  /** The prompt's first tokens whose keys and values an earlier request left behind. */
  onStart(cachedTokens: number): void;
  /** Returns the record as it counts: cut short, where the request ended within it; null where it does not. */
  onRecord(record: EmittedRecord, logprobs: TokenIdLogprob[] | null): EmittedRecord | null;
  isCancelled(): boolean;
};

/** A sequence that takes part in rounds. */
export type Member = {
  slot: number;
  epoch: number;
  request: DecodeRequest;
  events: DecodeEvents;
  mode: SamplingMode;
  /** Committed as far as is known; at first, what is fed before anything is decoded. */
  tokens: number[];
  /** Of the prompt, in the order in which they are fed; null until the first of them is due. */
  chunks: { model: 'target' | 'draft'; chunk: PrefillChunk }[] | null;
  /** Whether its prompt is long enough to be fed no faster than the device follows. */
  feedsSlowly: boolean;
  /** Of its submitted rounds, the prefill's last chunk included, whose records are awaited: most tokens of each. */
  inFlight: number[];
  /** Committed tokens as of the newest record. */
  length: number;
  /** Tokens, but for the last two, that the draft model will not have been fed after the rounds submitted so far. */
  draftGap: number;
  hasEnded: boolean;
  failure: unknown;
  leave: (failure: unknown) => void;
};

export function createMember(
  slot: number,
  epoch: number,
  request: DecodeRequest,
  events: DecodeEvents,
  leave: Member['leave'],
): Member {
  const tokens = [...request.promptTokens, ...request.emittedTokens];
  return {
    slot,
    epoch,
    request,
    events,
    mode: samplingMode(request.sampling),
    tokens,
    chunks: null,
    feedsSlowly: false,
    inFlight: [],
    length: tokens.length,
    draftGap: 0,
    hasEnded: false,
    failure: null,
    leave,
  };
}

export const isFed = ({ chunks }: Member): boolean => chunks?.length === 0;

export const isDone = ({ hasEnded, failure, events }: Member): boolean =>
  hasEnded || failure !== null || events.isCancelled();

/** Of the committed tokens, as far as is known. */
export const meanLength = (members: readonly Member[]): number =>
  members.reduce((sum, { length }) => sum + length, 0) / members.length;
