// accept.wgsl: keep the drafts that the target accepts, add the target's next token, commit, move the length, write the
//   record. Greedy and seeded requests accept the drafts that equal the target's own tokens; others those that
//   reject.wgsl left (Leviathan et al. 2023).
// In:  targetTokens (rows,) u32: the target's token after each verified row; nextTokens (slots,) u32: of rejection
//      sampling, the one after the accepted drafts
// Out: state SequenceState; history (slots, contextLength + 8) u32; record (slots,) RoundRecord;
//      adjustments (slots, V) of (output count and prompt bit, bias): committed tokens are counted
// Dispatch: 1 workgroup of 1 per slot. Overrides: none. Needs: nothing optional.
// Numerics: integers only.
// Twin: test/reference/accept.ts
struct Params {
  historyStride: u32,
  vocabSize: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> targetTokens: array<u32>;
@group(0) @binding(2) var<storage, read> nextTokens: array<u32>;
@group(0) @binding(3) var<storage, read_write> state: array<SequenceState>;
@group(0) @binding(4) var<storage, read_write> history: array<u32>;
@group(0) @binding(5) var<storage, read_write> record: array<RoundRecord>;
@group(0) @binding(6) var<storage, read_write> adjustments: array<vec2<u32>>;

fn is_stop_token(slot: u32, token: u32) -> bool {
  for (var i = 0u; i < state[slot].stopTokenCount; i += 1u) {
    if (state[slot].stopTokens[i] == token) {
      return true;
    }
  }
  return false;
}

fn accepted_drafts(slot: u32, first: u32, draftCount: u32) -> u32 {
  if (state[slot].sampling == SAMPLING_RANDOM) {
    return min(state[slot].acceptedCount, draftCount);
  }
  var accepted = 0u;
  while (accepted < draftCount && state[slot].drafts[accepted] == targetTokens[first + accepted]) {
    accepted += 1u;
  }
  return accepted;
}

// The i-th of the accepted drafts and the token after them.
fn token_at(slot: u32, first: u32, accepted: u32, i: u32) -> u32 {
  if (state[slot].sampling == SAMPLING_RANDOM) {
    return select(nextTokens[slot], state[slot].drafts[i], i < accepted);
  }
  return targetTokens[first + i];
}

@compute @workgroup_size(1)
fn main(@builtin(workgroup_id) group: vec3<u32>) {
  let slot = group.x;
  if (state[slot].turn == 0u) {
    return;
  }
  let first = state[slot].firstRow;
  let n = state[slot].length;
  let roundIndex = state[slot].roundIndex;
  record[slot].slot = slot;
  record[slot].epoch = state[slot].epoch;
  record[slot].roundIndex = roundIndex;
  if (state[slot].finish != RUNNING) {
    record[slot].flags = FLAG_NOOP | (state[slot].finish << FINISH_SHIFT);
    record[slot].draftCount = 0u;
    record[slot].acceptedCount = 0u;
    record[slot].committedCount = 0u;
    record[slot].length = n;
    return;
  }
  let isPrefill = roundIndex == 0u;
  let draftCount = select(state[slot].draftCount, 0u, isPrefill);
  let accepted = accepted_drafts(slot, first, draftCount);
  var committed = 0u;
  var finish = RUNNING;
  var flags = select(0u, FLAG_PREFILL, isPrefill);
  while (committed <= accepted && finish == RUNNING) {
    let token = token_at(slot, first, accepted, committed);
    if (token == NO_TOKEN) {
      flags |= FLAG_NON_FINITE;
      finish = FINISH_LENGTH;
      break;
    }
    history[slot * params.historyStride + n + committed] = token;
    if (state[slot].hasAdjustments != 0u) {
      adjustments[slot * params.vocabSize + token].x += 1u;
    }
    committed += 1u;
    if (is_stop_token(slot, token)) {
      finish = FINISH_STOP;
    } else if (n + committed >= state[slot].limit) {
      finish = FINISH_LENGTH;
    }
  }
  for (var i = 0u; i <= accepted; i += 1u) {
    record[slot].tokens[i] = token_at(slot, first, accepted, i);
  }
  record[slot].flags = flags | (finish << FINISH_SHIFT);
  record[slot].draftCount = draftCount;
  record[slot].acceptedCount = accepted;
  record[slot].committedCount = committed;
  record[slot].length = n + committed;
  state[slot].length = n + committed;
  // The draft model ran in this round, and was fed all accepted drafts but perhaps the last.
  if (state[slot].draftFed == n) {
    state[slot].draftFed = max(n + committed, 2u) - 2u;
  }
  state[slot].finish = finish;
  state[slot].roundIndex = roundIndex + 1u;
}
