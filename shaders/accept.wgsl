// accept.wgsl: keep the drafts that the target accepts, add the target's next token, commit, move the length, write the
//   record. Greedy and seeded requests accept the drafts that equal the target's own tokens; others those that
//   reject.wgsl left (Leviathan et al. 2023).
// In:  targetTokens u32: the target's token after each verified row; with REJECTION the one after the accepted drafts
// Out: state SequenceState; history (slots, contextLength + 8) u32; record (sequences,) RoundRecord;
//      adjustments (slots, V) of (output count and prompt bit, bias): committed tokens are counted
// Dispatch: 1 workgroup of 1 per sequence. Overrides: REJECTION (1: the accepted count is in the state).
//   Needs: nothing optional.
// Numerics: integers only.
// Twin: test/reference/accept.ts
override REJECTION: u32;

struct Params {
  slot: u32,
  historyStride: u32,
  targetStride: u32,  // targetTokens from one sequence to the next
  vocabSize: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> targetTokens: array<u32>;
@group(0) @binding(2) var<storage, read_write> state: array<SequenceState>;
@group(0) @binding(3) var<storage, read_write> history: array<u32>;
@group(0) @binding(4) var<storage, read_write> record: array<RoundRecord>;
@group(0) @binding(5) var<storage, read_write> adjustments: array<vec2<u32>>;

fn is_stop_token(slot: u32, token: u32) -> bool {
  for (var i = 0u; i < state[slot].stopTokenCount; i += 1u) {
    if (state[slot].stopTokens[i] == token) {
      return true;
    }
  }
  return false;
}

fn accepted_drafts(slot: u32, first: u32, draftCount: u32) -> u32 {
  if (REJECTION == 1u) {
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
  if (REJECTION == 1u) {
    return select(targetTokens[first], state[slot].drafts[i], i < accepted);
  }
  return targetTokens[first + i];
}

@compute @workgroup_size(1)
fn main(@builtin(workgroup_id) group: vec3<u32>) {
  let sequence = group.x;
  let slot = params.slot + sequence;
  let first = sequence * params.targetStride;
  let n = state[slot].length;
  let roundIndex = state[slot].roundIndex;
  record[sequence].slot = slot;
  record[sequence].epoch = state[slot].epoch;
  record[sequence].roundIndex = roundIndex;
  if (state[slot].finish != RUNNING) {
    record[sequence].flags = FLAG_NOOP | (state[slot].finish << FINISH_SHIFT);
    record[sequence].draftCount = 0u;
    record[sequence].acceptedCount = 0u;
    record[sequence].committedCount = 0u;
    record[sequence].length = n;
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
    record[sequence].tokens[i] = token_at(slot, first, accepted, i);
  }
  record[sequence].flags = flags | (finish << FINISH_SHIFT);
  record[sequence].draftCount = draftCount;
  record[sequence].acceptedCount = accepted;
  record[sequence].committedCount = committed;
  record[sequence].length = n + committed;
  state[slot].length = n + committed;
  // The draft model ran in this round, and was fed all accepted drafts but perhaps the last.
  if (state[slot].draftFed == n) {
    state[slot].draftFed = max(n + committed, 2u) - 2u;
  }
  state[slot].finish = finish;
  state[slot].roundIndex = roundIndex + 1u;
}
