// logprobs.wgsl: log-probabilities of the emitted tokens and of the most likely ones, by the model's own logits (before
//   penalties and temperature).
// In:  state SequenceState; logits (rows, V) f32; record (slots,) RoundRecord of accept.wgsl
// Out: logprobs (slots, 8, 41) u32: the emitted token's logprob as f32 bits, 20 ids, 20 logprobs as f32 bits
// Dispatch: (slots, 8) workgroups of 256. Overrides: none. Needs: nothing optional.
// Numerics: log-softmax in f32, sums over lanes as a tree. Descending, ties by lowest id.
// Twin: test/reference/logprobs.ts
const MAX_TOP = 20u;
const MAX_ROWS = 8u;  // of a record
const ROW_WORDS = 1u + 2u * MAX_TOP;

struct Params {
  vocabSize: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> state: array<SequenceState>;
@group(0) @binding(2) var<storage, read> logits: array<f32>;
@group(0) @binding(3) var<storage, read> record: array<RoundRecord>;
@group(0) @binding(4) var<storage, read_write> logprobs: array<u32>;

var<workgroup> wideValue: array<f32, WIDE>;
var<workgroup> wideId: array<u32, WIDE>;

fn fold_wide_best(lane: u32, value: f32, id: u32) {
  wideValue[lane] = value;
  wideId[lane] = id;
  workgroupBarrier();
  for (var offset = WIDE / 2u; offset > 0u; offset >>= 1u) {
    if (lane < offset && better(wideValue[lane + offset], wideId[lane + offset], wideValue[lane], wideId[lane])) {
      wideValue[lane] = wideValue[lane + offset];
      wideId[lane] = wideId[lane + offset];
    }
    workgroupBarrier();
  }
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let slot = group.x;
  let m = group.y;
  let skips = (record[slot].flags & (FLAG_NOOP | FLAG_NON_FINITE)) != 0u || m > record[slot].acceptedCount;
  if (state[slot].turn == 0u || state[slot].logprobCount == 0u || skips) {
    return;
  }
  let emitted = record[slot].tokens[m];
  let base = (state[slot].firstRow + m) * params.vocabSize;
  var highest = LOWEST;
  for (var i = lane; i < params.vocabSize; i += WIDE) {
    let value = logits[base + i];
    if (is_finite(value)) {
      highest = max(highest, value);
    }
  }
  highest = wide_max(lane, highest);
  var sum = 0.0;
  for (var i = lane; i < params.vocabSize; i += WIDE) {
    let value = logits[base + i];
    if (is_finite(value)) {
      sum = sum + exp(value - highest);
    }
  }
  let normaliser = highest + log(wide_sum(lane, sum));
  let out = (slot * MAX_ROWS + m) * ROW_WORDS;
  if (lane == 0u) {
    logprobs[out] = bitcast<u32>(logits[base + emitted] - normaliser);
  }
  let topCount = min(state[slot].logprobCount - 1u, MAX_TOP);
  // Each lane offers the best of its logits that was not chosen yet; only the winner looks for another.
  var value = LOWEST;
  var id = NO_TOKEN;
  var needsNext = true;
  var chosenValue = 0.0;
  var chosenId = NO_TOKEN;
  for (var rank = 0u; rank < topCount; rank += 1u) {
    if (needsNext) {
      value = LOWEST;
      id = NO_TOKEN;
      for (var i = lane; i < params.vocabSize; i += WIDE) {
        let logit = logits[base + i];
        let isLeft = rank == 0u || better(chosenValue, chosenId, logit, i);
        if (is_finite(logit) && isLeft && better(logit, i, value, id)) {
          value = logit;
          id = i;
        }
      }
    }
    fold_wide_best(lane, value, id);
    chosenValue = wideValue[0];
    chosenId = wideId[0];
    workgroupBarrier();
    needsNext = id == chosenId;
    if (lane == 0u) {
      logprobs[out + 1u + rank] = chosenId;
      logprobs[out + 1u + MAX_TOP + rank] = bitcast<u32>(chosenValue - normaliser);
    }
  }
}
