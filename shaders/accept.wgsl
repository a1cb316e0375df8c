// accept.wgsl: greedy verification: keep the drafts that equal the target's own argmax, add the target's next token
//   (Leviathan et al. 2023 at temperature 0), commit, move the length, write the record.
// In:  targetTokens (k + 1,) u32, the target's argmax after each verified row
// Out: state SequenceState; history (slots, contextLength + 8) u32; record RoundRecord
// Dispatch: 1 workgroup of 1 per sequence. Overrides: none. Needs: nothing optional.
// Numerics: integers only.
// Twin: test/reference/accept.ts
const FLAG_NOOP = 1u;
const FLAG_NON_FINITE = 2u;
const FLAG_PREFILL = 4u;
const FINISH_SHIFT = 8u;

struct Params {
  slot: u32,
  historyStride: u32,
}

// 64 bytes, all that a round sends to the host. Parsed by src/speculative/record.ts.
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

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> targetTokens: array<u32>;
@group(0) @binding(2) var<storage, read_write> state: array<SequenceState>;
@group(0) @binding(3) var<storage, read_write> history: array<u32>;
@group(0) @binding(4) var<storage, read_write> record: RoundRecord;

fn is_stop_token(token: u32) -> bool {
  for (var i = 0u; i < state[params.slot].stopTokenCount; i += 1u) {
    if (state[params.slot].stopTokens[i] == token) {
      return true;
    }
  }
  return false;
}

@compute @workgroup_size(1)
fn main() {
  let slot = params.slot;
  let n = state[slot].length;
  let roundIndex = state[slot].roundIndex;
  record.slot = slot;
  record.epoch = state[slot].epoch;
  record.roundIndex = roundIndex;
  if (state[slot].finish != RUNNING) {
    record.flags = FLAG_NOOP | (state[slot].finish << FINISH_SHIFT);
    record.draftCount = 0u;
    record.acceptedCount = 0u;
    record.committedCount = 0u;
    record.length = n;
    return;
  }
  let isPrefill = roundIndex == 0u;
  let draftCount = select(state[slot].draftCount, 0u, isPrefill);
  var accepted = 0u;
  while (accepted < draftCount && state[slot].drafts[accepted] == targetTokens[accepted]) {
    accepted += 1u;
  }
  // The accepted drafts equal the target's tokens, and the one after them is the bonus (or the correction).
  var committed = 0u;
  var finish = RUNNING;
  var flags = select(0u, FLAG_PREFILL, isPrefill);
  while (committed <= accepted && finish == RUNNING) {
    let token = targetTokens[committed];
    if (token == NO_TOKEN) {
      flags |= FLAG_NON_FINITE;
      finish = FINISH_LENGTH;
      break;
    }
    history[slot * params.historyStride + n + committed] = token;
    committed += 1u;
    if (is_stop_token(token)) {
      finish = FINISH_STOP;
    } else if (n + committed >= state[slot].limit) {
      finish = FINISH_LENGTH;
    }
  }
  for (var i = 0u; i <= accepted; i += 1u) {
    record.tokens[i] = targetTokens[i];
  }
  record.flags = flags | (finish << FINISH_SHIFT);
  record.draftCount = draftCount;
  record.acceptedCount = accepted;
  record.committedCount = committed;
  record.length = n + committed;
  state[slot].length = n + committed;
  state[slot].finish = finish;
  state[slot].roundIndex = roundIndex + 1u;
}
