// rows.wgsl: the rows of the next forward pass, from the sequence states (DESIGN: positions).
// In:  history (slots, contextLength + 8) u32; sampled (rows,) u32, the draft model's last choices
// Out: rows Rows; state SequenceState (drafts, draftCount, targetFed, draftFed, firstRow, draftRow,
//      firstDraftRow)
// Dispatch: 1 workgroup of 64. Overrides: MODE. Needs: nothing optional.
// Numerics: integers only.
// Twin: test/reference/rows.ts
const PREFILL = 0u;      // the next prompt tokens of one slot, up to `capacity`
const CATCH_UP = 1u;     // the next committed tokens of one slot that plain rounds kept from the draft model
const DRAFT_FIRST = 2u;  // the last two committed tokens: fills the position that a fully accepted round left empty
const DRAFT_NEXT = 3u;   // the draft that step - 1 sampled
const VERIFY = 4u;       // the last committed token and all drafts, the last of them just sampled
const VERIFY_FOUND = 5u; // the same with the drafts that ngram.wgsl found

override MODE: u32;

struct Params {
  slot: u32,           // PREFILL, CATCH_UP; the other modes take all slots that have a turn
  slotCount: u32,
  step: u32,           // draft step, 1 up (DRAFT_NEXT)
  capacity: u32,       // most rows of the pass (PREFILL, CATCH_UP)
  isDraft: u32,        // which model's prompt is fed (PREFILL)
  historyStride: u32,
  groupRows: u32,      // most rows of a query group
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> state: array<SequenceState>;
@group(0) @binding(2) var<storage, read> history: array<u32>;
@group(0) @binding(3) var<storage, read> sampled: array<u32>;
@group(0) @binding(4) var<storage, read_write> rows: Rows;

var<private> rowCount: u32;
var<private> groupCount: u32;

fn committed(slot: u32, position: u32) -> u32 {
  return history[slot * params.historyStride + position];
}

fn set_row(t: u32, token: u32, slot: u32, position: u32) {
  rows.row[t].token = token;
  rows.row[t].slot = slot;
  rows.row[t].position = position;
}

fn set_group(index: u32, first: u32, end: u32) {
  rows.row[index].group = first | (min(params.groupRows, end - first) << 16u);
}

fn add_row(token: u32, slot: u32, position: u32) {
  set_row(rowCount, token, slot, position);
  rowCount += 1u;
}

// The rows from `first` on are of one slot.
fn close_run(first: u32) {
  for (var t = first; t < rowCount; t += params.groupRows) {
    set_group(groupCount, t, rowCount);
    groupCount += 1u;
  }
}

fn has_turn(slot: u32) -> bool {
  return state[slot].turn > 0u && state[slot].finish == RUNNING;
}

// The next committed tokens before `end` that a model was not fed yet.
fn feed(lane: u32, isDraft: bool, end: u32) {
  let slot = params.slot;
  let start = select(state[slot].targetFed, state[slot].draftFed, isDraft);
  let count = min(params.capacity, end - min(start, end));
  workgroupBarrier();  // every lane has read the state before lane 0 moves it
  for (var t = lane; t < count; t += 64u) {
    set_row(t, committed(slot, start + t), slot, start + t);
    if (t * params.groupRows < count) {
      set_group(t, t * params.groupRows, count);
    }
  }
  if (lane == 0u) {
    rows.rowCount = count;
    rows.firstOutputRow = max(count, 1u) - 1u;
    rows.groupCount = (count + params.groupRows - 1u) / params.groupRows;
    if (isDraft) {
      state[slot].draftFed = start + count;
    } else {
      state[slot].targetFed = start + count;
      state[slot].firstRow = 0u;
    }
  }
}

fn draft_first() {
  // The rows that get logits lie together, at the end.
  var draftCount = 0u;
  for (var slot = 0u; slot < params.slotCount; slot += 1u) {
    if (has_turn(slot) && state[slot].turn > 1u) {
      let position = state[slot].length - 2u;
      state[slot].draftRow = rowCount;
      state[slot].firstDraftRow = draftCount;
      draftCount += state[slot].turn - 1u;
      add_row(committed(slot, position), slot, position);
    }
  }
  rows.firstOutputRow = rowCount;
  for (var slot = 0u; slot < params.slotCount; slot += 1u) {
    if (has_turn(slot) && state[slot].turn > 1u) {
      let position = state[slot].length - 1u;
      state[slot].draftFed = position + 1u;
      add_row(committed(slot, position), slot, position);
    }
  }
  if (rowCount == 2u) {
    close_run(0u);
    return;
  }
  for (var t = 0u; t < rowCount; t += 1u) {
    set_group(t, t, t + 1u);
  }
  groupCount = rowCount;
}

fn draft_next() {
  rows.firstOutputRow = 0u;
  for (var slot = 0u; slot < params.slotCount; slot += 1u) {
    if (!has_turn(slot) || state[slot].turn < params.step) {
      continue;
    }
    let draft = sampled[state[slot].draftRow];
    state[slot].drafts[params.step - 2u] = draft;
    let position = state[slot].length + params.step - 2u;
    // Past the context there is neither a cache row nor a use for the draft.
    if (state[slot].turn > params.step && position < state[slot].contextLength) {
      let first = rowCount;
      state[slot].draftRow = first;
      add_row(draft, slot, position);
      close_run(first);
    }
  }
}

fn verify() {
  rows.firstOutputRow = 0u;
  // Shorter turns' last drafts were taken by later draft steps.
  var longest = 0u;
  for (var slot = 0u; slot < params.slotCount; slot += 1u) {
    longest = max(longest, state[slot].turn);
  }
  for (var slot = 0u; slot < params.slotCount; slot += 1u) {
    if (!has_turn(slot)) {
      continue;
    }
    let n = state[slot].length;
    var proposed = state[slot].turn - 1u;
    if (MODE == VERIFY_FOUND) {
      proposed = min(proposed, state[slot].draftCount);
    } else if (proposed > 0u && state[slot].turn == longest) {
      state[slot].drafts[proposed - 1u] = sampled[state[slot].draftRow];
    }
    let draftCount = min(proposed, state[slot].contextLength - 1u - n);
    let first = rowCount;
    state[slot].draftCount = draftCount;
    state[slot].firstRow = first;
    add_row(committed(slot, n - 1u), slot, n - 1u);
    for (var i = 0u; i < draftCount; i += 1u) {
      add_row(state[slot].drafts[i], slot, n + i);
    }
    close_run(first);
  }
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
  switch MODE {
    case DRAFT_FIRST: { draft_first(); }
    case DRAFT_NEXT: { draft_next(); }
    default: { verify(); }
  }
  rows.rowCount = rowCount;
  rows.groupCount = groupCount;
}
