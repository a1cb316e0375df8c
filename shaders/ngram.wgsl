// ngram.wgsl: drafts from the sequence's own tokens (prompt lookup decoding, Saxena 2023): what followed the longest
//   earlier occurrence of the last tokens; of equally long ones the most recent.
// In:  history (slots, contextLength + 8) u32
// Out: state SequenceState (drafts, draftCount: 0 where nothing of at least `shortest` tokens matches)
// Dispatch: 1 workgroup of 256 per slot. Overrides: none. Needs: nothing optional.
// Numerics: integers only.
// Twin: test/reference/ngram.ts
struct Params {
  historyStride: u32,
  shortest: u32,  // tokens that must match
  longest: u32,   // tokens that are compared, at most 255
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> history: array<u32>;
@group(0) @binding(2) var<storage, read_write> state: array<SequenceState>;

const LANES = 256u;
const POSITION_BITS = 24u;
var<workgroup> best: array<u32, LANES>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let slot = group.x;
  let base = slot * params.historyStride;
  // Without a turn that drafts there is nothing to compare.
  let n = select(0u, state[slot].length, state[slot].turn > 1u);
  // The length of the match in the high bits, where it ends in the low ones: the largest is the one we want.
  var key = 0u;
  for (var end = lane + 1u; end < n; end += LANES) {
    let limit = min(params.longest, end);
    var matching = 0u;
    while (matching < limit && history[base + end - 1u - matching] == history[base + n - 1u - matching]) {
      matching += 1u;
    }
    key = max(key, (matching << POSITION_BITS) | end);
  }
  best[lane] = key;
  workgroupBarrier();
  for (var offset = LANES / 2u; offset > 0u; offset >>= 1u) {
    if (lane < offset) {
      best[lane] = max(best[lane], best[lane + offset]);
    }
    workgroupBarrier();
  }
  if (lane != 0u || n == 0u || state[slot].finish != RUNNING) {
    return;
  }
  let isMatch = (best[0] >> POSITION_BITS) >= params.shortest;
  let first = best[0] & ((1u << POSITION_BITS) - 1u);
  let count = select(0u, min(state[slot].turn - 1u, n - first), isMatch);
  for (var i = 0u; i < count; i += 1u) {
    state[slot].drafts[i] = history[base + first + i];
  }
  state[slot].draftCount = count;
}
