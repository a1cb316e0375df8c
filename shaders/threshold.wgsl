// threshold.wgsl: what top-k, top-p (Holtzman et al. 2020) and min-p (Nguyen et al. 2024) keep of a distribution: the
//   lowest logit kept, and the sum of exp(logit - maximum) over the kept ones.
// In:  rows Rows; state SequenceState; warped (distributions, V) f32
// Out: distributions (distributions,) of (maximum, threshold, sum, 0) f32
// Dispatch: (1, M) workgroups of 256. Overrides: none. Needs: nothing optional.
// Numerics: radix selection over the ordered bits of the logits: exact for top-k, ties kept. For top-p masses are
//   rounded to 2^-31 of the total, so their sums do not depend on the order. Sums over lanes as a tree.
// Twin: test/reference/threshold.ts
struct Params {
  vocabSize: u32,
  firstRow: u32,  // distribution row of output row 0; ofDrafts: from a sequence's first draft row
  rowStride: u32,
  ofDrafts: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rows: Rows;
@group(0) @binding(2) var<storage, read> state: array<SequenceState>;
@group(0) @binding(3) var<storage, read> warped: array<f32>;
@group(0) @binding(4) var<storage, read_write> distributions: array<vec4<f32>>;

const COPIES = 4u;  // histograms side by side: neighbouring logits often fall into one bin

var<workgroup> histogram: array<atomic<u32>, WIDE * COPIES>;
var<workgroup> suffix: array<u32, WIDE + 1u>;
var<workgroup> chosenBin: u32;
var<workgroup> remaining: u32;

// Unsigned integers in the order of the floats, both zeros alike; 0 for what is not finite.
fn order_key(value: f32) -> u32 {
  let bits = select(bitcast<u32>(value), 0u, value == 0.0);
  return select(0u, select(bits | 0x80000000u, ~bits, (bits & 0x80000000u) != 0u), is_finite(value));
}

fn value_of_key(key: u32) -> f32 {
  return bitcast<f32>(select(~key, key & 0x7fffffffu, (key & 0x80000000u) != 0u));
}

// Sum of exp(logit - highest) over the logits from `floorKey` up.
fn mass_from(lane: u32, base: u32, floorKey: u32, highest: f32) -> f32 {
  var sum = 0.0;
  for (var i = lane; i < params.vocabSize; i += WIDE) {
    let value = warped[base + i];
    if (order_key(value) >= floorKey) {
      sum = sum + exp(value - highest);
    }
  }
  return wide_sum(lane, sum);
}

// The highest key with at least `fraction` of the mass (scale > 0), or `count` logits (scale = 0), at or above it, among
// the logits from `floorKey` up; `floorKey` where there is too little.
fn select_key(lane: u32, base: u32, floorKey: u32, highest: f32, scale: f32, fraction: f32, count: u32) -> u32 {
  var prefix = 0u;
  for (var shift = 24i; shift >= 0i; shift -= 8i) {
    for (var copy = 0u; copy < COPIES; copy += 1u) {
      atomicStore(&histogram[lane * COPIES + copy], 0u);
    }
    workgroupBarrier();
    for (var i = lane; i < params.vocabSize; i += WIDE) {
      let value = warped[base + i];
      let key = order_key(value);
      // Two shifts: one of 32 is undefined.
      let isInPrefix = ((key >> u32(shift)) >> 8u) == ((prefix >> u32(shift)) >> 8u);
      if (key >= floorKey && isInPrefix) {
        var weight = 1u;
        if (scale > 0.0) {
          weight = u32(exp(value - highest) * scale + 0.5);
        }
        let bin = (key >> u32(shift)) & 255u;
        atomicAdd(&histogram[bin * COPIES + (lane & (COPIES - 1u))], weight);
      }
    }
    workgroupBarrier();
    var total = 0u;
    for (var copy = 0u; copy < COPIES; copy += 1u) {
      total += atomicLoad(&histogram[lane * COPIES + copy]);
    }
    suffix[lane] = total;
    if (lane == 0u) {
      suffix[WIDE] = 0u;
      chosenBin = 0u;
    }
    workgroupBarrier();
    for (var offset = 1u; offset < WIDE; offset <<= 1u) {
      var sum = suffix[lane];
      if (lane + offset < WIDE) {
        sum += suffix[lane + offset];
      }
      workgroupBarrier();
      suffix[lane] = sum;
      workgroupBarrier();
    }
    if (lane == 0u && shift == 24i) {
      remaining = select(count, max(1u, u32(ceil(fraction * f32(suffix[0])))), scale > 0.0);
    }
    workgroupBarrier();
    let wanted = remaining;
    let above = suffix[lane + 1u];
    workgroupBarrier();
    if (suffix[lane] >= wanted && above < wanted) {
      chosenBin = lane;
      remaining = wanted - above;
    }
    workgroupBarrier();
    prefix |= chosenBin << u32(shift);
    workgroupBarrier();
  }
  return max(prefix, floorKey);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let t = rows.firstOutputRow + group.y;
  if (t >= rows.rowCount) {
    return;
  }
  let slot = rows.row[t].slot;
  let row = params.firstRow + select(group.y * params.rowStride, state[slot].firstDraftRow, params.ofDrafts == 1u);
  let base = row * params.vocabSize;
  var highest = LOWEST;
  for (var i = lane; i < params.vocabSize; i += WIDE) {
    let value = warped[base + i];
    if (is_finite(value)) {
      highest = max(highest, value);
    }
  }
  highest = wide_max(lane, highest);
  var floorKey = order_key(LOWEST);
  let topK = state[slot].topK;
  if (topK > 0u) {
    floorKey = select_key(lane, base, floorKey, highest, 0.0, 0.0, topK);
  }
  let topP = state[slot].topP;
  if (topP < 1.0) {
    let scale = 0x1p31 / mass_from(lane, base, floorKey, highest);
    floorKey = select_key(lane, base, floorKey, highest, scale, topP, 0u);
  }
  let minP = state[slot].minP;
  if (minP > 0.0) {
    floorKey = max(floorKey, min(order_key(highest + log(minP)), order_key(highest)));
  }
  let sum = mass_from(lane, base, floorKey, highest);
  if (lane == 0u) {
    distributions[row] = vec4(highest, value_of_key(floorKey), sum, 0.0);
  }
}
