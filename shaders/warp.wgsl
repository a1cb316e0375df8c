// warp.wgsl: logits as the request wants them: repetition penalty (Keskar et al. 2019), presence and frequency penalty,
//   bias, temperature, and no stop token before minNewTokens.
// In:  rows Rows; state SequenceState; logits (M, V) f32;
//      adjustments (slots, adjustedTokens) of (output count and prompt bit, bias)
// Out: warped (distributions, V) f32
// Dispatch: (chunks, M) workgroups of 64, a workgroup per 1,024 logits. Overrides: none. Needs: nothing optional.
// Numerics: elementwise in f32. Every row counts the drafts before it, so it equals sequential decoding.
// Twin: test/reference/warp.ts
struct Params {
  vocabSize: u32,
  firstRow: u32,        // distribution row of output row 0; ofDrafts: from a sequence's first draft row
  rowStride: u32,
  ofDrafts: u32,
  adjustedTokens: u32,  // the target's vocabulary: a draft model may pad its own otherwise
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rows: Rows;
@group(0) @binding(2) var<storage, read> state: array<SequenceState>;
@group(0) @binding(3) var<storage, read> logits: array<f32>;
@group(0) @binding(4) var<storage, read> adjustments: array<vec2<u32>>;
@group(0) @binding(5) var<storage, read_write> warped: array<f32>;

const CHUNK = 1024u;
const PROMPT_BIT = 0x80000000u;
const BANNED = -3.4028234e38;

fn adjusted(logit: f32, token: u32, slot: u32, pendingDrafts: u32) -> f32 {
  let word = adjustments[slot * params.adjustedTokens + token];
  var count = word.x & ~PROMPT_BIT;
  for (var i = 0u; i < pendingDrafts; i += 1u) {
    count += u32(state[slot].drafts[i] == token);
  }
  var value = logit;
  if (count > 0u || (word.x & PROMPT_BIT) != 0u) {
    let penalty = state[slot].repetitionPenalty;
    value = select(value * penalty, value / penalty, value > 0.0);
  }
  value -= select(0.0, state[slot].presencePenalty, count > 0u) + state[slot].frequencyPenalty * f32(count);
  return value + bitcast<f32>(word.y);
}

fn is_stop_token(token: u32, slot: u32) -> bool {
  for (var i = 0u; i < state[slot].stopTokenCount; i += 1u) {
    if (state[slot].stopTokens[i] == token) {
      return true;
    }
  }
  return false;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let t = rows.firstOutputRow + group.y;
  if (t >= rows.rowCount) {
    return;
  }
  let slot = rows.row[t].slot;
  let length = rows.row[t].position + 1u;  // tokens before the one to be sampled
  let pendingDrafts = length - min(length, state[slot].length);
  let isTooShort = length < state[slot].promptLength + state[slot].minNewTokens;
  let target_row = (params.firstRow + select(group.y * params.rowStride, state[slot].firstDraftRow, params.ofDrafts == 1u)) * params.vocabSize;
  let end = min((group.x + 1u) * CHUNK, params.vocabSize);
  for (var token = group.x * CHUNK + lane; token < end; token += 64u) {
    var value = logits[group.y * params.vocabSize + token];
    if (state[slot].hasAdjustments != 0u && token < params.adjustedTokens) {
      value = adjusted(value, token, slot, pendingDrafts);
    }
    value *= state[slot].inverseTemperature;
    if (isTooShort && is_stop_token(token, slot)) {
      value = BANNED;
    }
    warped[target_row + token] = value;
  }
}
