/** Statistics of rounds and requests, as `docs/metrics.md` defines them. */

/** How a round came to its tokens: the prompt's pass, a pass that verified drafts, or a plain one-token pass. */
export type RoundPhase = 'prefill' | 'verify' | 'plain';

/** Statistics of one round. */
export type RoundStats = {
  /** 0 for the prefill, then counting up. */
  index: number;
  phase: RoundPhase;
  /** Draft tokens proposed and checked in this round (k). */
  draftLength: number;
  /** Draft tokens that the target agreed with, 0..draftLength: the bonus token is not counted, and a stop truncates nothing here. */
  acceptedCount: number;
  /** Tokens emitted by this round: acceptedCount + 1, less where the request ended inside the round. */
  tokenCount: number;
  /** Wall time between the arrival of the previous record and this one, in ms. */
  roundTimeMs: number;
};

/** Why a request ended, spelled as SGLang does. `matched` is the token id, or the `stop` string, that stopped it. */
export type FinishReason =
  | { type: 'stop'; matched: number | string }
  | { type: 'length'; length: number }
  | { type: 'abort'; message: string };

/** Per-request metrics under SGLang's names. The `spec_*` keys are absent when no draft was proposed. */
export type MetaInfo = {
  id: string;
  finish_reason: FinishReason;
  prompt_tokens: number;
  /** Emitted tokens, the one that ended the request included. */
  completion_tokens: number;
  /** Prompt tokens whose keys and values were reused from an earlier request. */
  cached_tokens: number;
  weight_version: string;
  /** Seconds from the call to the last token, the time spent queued included. */
  e2e_latency: number;
  /** Target passes that verified at least one draft. */
  spec_verify_ct?: number;
  /** Rounds without a draft, one token each. */
  spec_plain_ct?: number;
  spec_num_proposed_drafts?: number;
  spec_num_correct_drafts?: number;
  /** correct / proposed */
  spec_accept_rate?: number;
  /** (completion_tokens − plain_ct) / verify_ct */
  spec_accept_length?: number;
  /** h[i] = verify rounds with exactly i accepted drafts. */
  spec_correct_drafts_histogram?: number[];
  /** [i] = rounds that accepted draft i / rounds that proposed draft i (i from 0). */
  spec_accept_rate_per_pos?: number[];
};

/** Per-request statistics in this library's own words. */
export type RequestStats = {
  /** Rounds after the prefill whose tokens were emitted. */
  roundCount: number;
  verifyCount: number;
  plainCount: number;
  /** Draft tokens proposed. */
  draftedCount: number;
  /** Draft tokens accepted. */
  acceptedCount: number;
  /** acceptedCount / draftedCount; null when nothing was drafted. */
  acceptanceRate: number | null;
  /** Mean of acceptedCount + 1 over verify rounds; null without one. */
  tokensPerRound: number | null;
  /** From the call until the engine began with it, in ms. */
  queueTimeMs: number;
  /** From the start of work to the first token, in ms. */
  timeToFirstTokenMs: number;
  /** Prompt tokens that were computed, not reused, by `timeToFirstTokenMs`; null where the clock shows no time. */
  prefillTokensPerSecond: number | null;
  /** From the first token to the last, in ms. */
  decodeTimeMs: number;
  /** decodeTimeMs by the tokens after the first. Null for fewer than two tokens. */
  timePerOutputTokenMs: number | null;
  /** Tokens after the first / decode time. Null for fewer than two tokens. */
  tokensPerSecond: number | null;
  /** tokensPerSecond against one token per plain round, whose time is known from loading and later rounds. Null where nothing drafts. */
  observedSpeedup: number | null;
  /** S = E / (k·c + v(k+1)) over the rounds of this request, by its acceptance and the costs of this device. Null without a draft model. */
  expectedSpeedup: number | null;
};
