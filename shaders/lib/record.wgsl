// The record of one round of one sequence: 64 bytes, all that a round sends to the host (logprobs aside). Parsed by
// src/speculative/record.ts.
const FLAG_NOOP = 1u;
const FLAG_NON_FINITE = 2u;
const FLAG_PREFILL = 4u;
const FINISH_SHIFT = 8u;

struct RoundRecord {
  slot: u32,
  epoch: u32,
  roundIndex: u32,
  flags: u32,           // noop, non-finite, prefill; finish code from bit 8
  draftCount: u32,      // drafts verified
  acceptedCount: u32,   // before truncation
  committedCount: u32,  // after truncation at a stop token or the limit
  length: u32,
  tokens: array<u32, 8>,
}
