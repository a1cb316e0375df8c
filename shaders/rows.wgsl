// rows.wgsl: the rows of the next forward pass, from the sequence state (DESIGN: positions).
// In:  history (slots, contextLength + 8) u32; sampled (8,) u32, the draft model's last argmax
// Out: rows Rows; state SequenceState (drafts, draftCount, targetFed, draftFed)
// Dispatch: 1 workgroup of 64. Overrides: MODE. Needs: nothing optional.
// Numerics: integers only.
// Twin: test/reference/rows.ts
const PREFILL = 0u;      // the next prompt tokens, up to `capacity`
const DRAFT_FIRST = 1u;  // the last two committed tokens: fills the position that a fully accepted round left empty
const DRAFT_NEXT = 2u;   // the draft that step - 1 sampled
const VERIFY = 3u;       // the last committed token and all drafts, the last of them just sampled
const VERIFY_FOUND = 4u; // the same with the drafts that ngram.wgsl found
const CATCH_UP = 5u;     // the next committed tokens that plain rounds kept from the draft model, up to `capacity`

override MODE: u32;

struct Params {
  slot: u32,
  step: u32,           // draft step, 1 up (DRAFT_NEXT)
  draftLength: u32,    // drafts of this round (VERIFY), or most of them (VERIFY_FOUND)
  capacity: u32,       // most rows of the pass (PREFILL, CATCH_UP)
  isDraft: u32,        // which model's prompt is fed (PREFILL)
  historyStride: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> state: array<SequenceState>;
@group(0) @binding(2) var<storage, read> history: array<u32>;
@group(0) @binding(3) var<storage, read> sampled: array<u32>;
@group(0) @binding(4) var<storage, read_write> rows: Rows;

fn committed(position: u32) -> u32 {
  return history[params.slot * params.historyStride + position];
}

// The next committed tokens before `end` that a model was not fed yet.
fn feed(lane: u32, isDraft: bool, end: u32) {
  let start = select(state[params.slot].targetFed, state[params.slot].draftFed, isDraft);
  let count = min(params.capacity, end - min(start, end));
  workgroupBarrier();  // every lane has read the state before lane 0 moves it
  for (var t = lane; t < count; t += 64u) {
    rows.row[t] = Row(committed(start + t), params.slot, start + t, 0u);
  }
  if (lane == 0u) {
    rows.rowCount = count;
    rows.firstOutputRow = max(count, 1u) - 1u;
    if (isDraft) {
      state[params.slot].draftFed = start + count;
    } else {
      state[params.slot].targetFed = start + count;
    }
  }
}

fn draft_first() {
  let n = state[params.slot].length;
  rows.row[0] = Row(committed(n - 2u), params.slot, n - 2u, 0u);
  rows.row[1] = Row(committed(n - 1u), params.slot, n - 1u, 0u);
  rows.rowCount = 2u;
  rows.firstOutputRow = 1u;
  state[params.slot].draftFed = n;
}

fn draft_next() {
  let position = state[params.slot].length + params.step - 2u;
  state[params.slot].drafts[params.step - 2u] = sampled[0];
  rows.row[0] = Row(sampled[0], params.slot, position, 0u);
  // Past the context there is neither a cache row nor a use for the draft.
  rows.rowCount = select(0u, 1u, position < state[params.slot].contextLength);
  rows.firstOutputRow = 0u;
}

fn verify() {
  let n = state[params.slot].length;
  var proposed = params.draftLength;
  if (MODE == VERIFY_FOUND) {
    proposed = min(proposed, state[params.slot].draftCount);
  } else if (proposed > 0u) {
    state[params.slot].drafts[proposed - 1u] = sampled[0];
  }
  let draftCount = min(proposed, state[params.slot].contextLength - 1u - n);
  state[params.slot].draftCount = draftCount;
  rows.row[0] = Row(committed(n - 1u), params.slot, n - 1u, 0u);
  for (var i = 0u; i < draftCount; i += 1u) {
    rows.row[i + 1u] = Row(state[params.slot].drafts[i], params.slot, n + i, 0u);
  }
  rows.rowCount = draftCount + 1u;
  rows.firstOutputRow = 0u;
}

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) lane: u32) {
  if (MODE == PREFILL) {
    feed(lane, params.isDraft == 1u, state[params.slot].promptLength);
    return;
  }
  if (MODE == CATCH_UP) {
    // The draft's first step feeds the last two itself.
    feed(lane, true, max(state[params.slot].length, 2u) - 2u);
    return;
  }
  if (lane != 0u) {
    return;
  }
  if (state[params.slot].finish != RUNNING) {
    rows.rowCount = 0u;
    return;
  }
  switch MODE {
    case DRAFT_FIRST: { draft_first(); }
    case DRAFT_NEXT: { draft_next(); }
    default: { verify(); }
  }
}
