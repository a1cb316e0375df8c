// matmul_rows.wgsl: y = x · Wᵀ (+ bias) (+ y) for up to 8 rows; each weight word is loaded once for all of them.
// In:  rows Rows; weight (N, K) packed, and its scales (lib/packed.wgsl); bias (N,) f32; input (M, K) f32
// Out: output (M, N) f32
// Dispatch: ceil(N / (64 / segments)) workgroups of 64, folded into 2-D; lane = output row · segments + segment.
//   Overrides: FORMAT (0: f16, 1: q8, 2: q4), ROWS (M, 1..8). Needs: nothing optional.
// Numerics: each segment of K in ascending k, segments folded left to right; matmul_tile.wgsl sums in the same order.
// Twin: test/reference/matmul.ts
override FORMAT: u32;
override ROWS: u32;

struct Params {
  outputSize: u32,    // N
  inputVectors: u32,  // K / 4
  segments: u32,
  segmentWords: u32,
  hasBias: u32,
  addOutput: u32,     // 1: residual, adds to what is there
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rows: Rows;
@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<storage, read> input: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> output: array<f32>;

var<workgroup> partial: array<f32, ROWS * 64u>;  // (M, lanes)

// Four products in ascending k onto a running sum.
fn accumulate(sum: f32, m: u32, k4: u32, w: vec4<f32>) -> f32 {
  let x = input[m * params.inputVectors + k4];
  var acc = sum;
  acc = acc + w.x * x.x;
  acc = acc + w.y * x.y;
  acc = acc + w.z * x.z;
  acc = acc + w.w * x.w;
  return acc;
}

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) id: vec3<u32>,
  @builtin(num_workgroups) counts: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let rowsPerGroup = 64u / params.segments;
  let group = id.x + id.y * counts.x;
  if (rows.rowCount == 0u || group * rowsPerGroup >= params.outputSize) {
    return;
  }
  // Rows that a lookup left empty cost a branch that all lanes take alike.
  let rowCount = rows.rowCount;
  let segment = lane % params.segments;
  let lastVector = params.inputVectors - 1u;
  // Named sums: an indexed local array would spill to memory.
  var sum0 = 0.0;
  var sum1 = 0.0;
  var sum2 = 0.0;
  var sum3 = 0.0;
  var sum4 = 0.0;
  var sum5 = 0.0;
  var sum6 = 0.0;
  var sum7 = 0.0;
  for (var step = 0u; step < params.segmentWords; step += 1u) {
    let index = (group * params.segmentWords + step) * 64u + lane;
    let packed = weight[index];
    let scale = word_scale(index);
    let first = (segment * params.segmentWords + step) * word_vectors();
    for (var v = 0u; v < word_vectors(); v += 1u) {
      let w = weight_vector(packed, scale, v);
      // The padding behind K holds zero weights, so any input of the row may stand there.
      let k4 = min(first + v, lastVector);
      sum0 = accumulate(sum0, 0u, k4, w);
      if (ROWS > 1u && rowCount > 1u) { sum1 = accumulate(sum1, 1u, k4, w); }
      if (ROWS > 2u && rowCount > 2u) { sum2 = accumulate(sum2, 2u, k4, w); }
      if (ROWS > 3u && rowCount > 3u) { sum3 = accumulate(sum3, 3u, k4, w); }
      if (ROWS > 4u && rowCount > 4u) { sum4 = accumulate(sum4, 4u, k4, w); }
      if (ROWS > 5u && rowCount > 5u) { sum5 = accumulate(sum5, 5u, k4, w); }
      if (ROWS > 6u && rowCount > 6u) { sum6 = accumulate(sum6, 6u, k4, w); }
      if (ROWS > 7u && rowCount > 7u) { sum7 = accumulate(sum7, 7u, k4, w); }
    }
  }
  partial[lane] = sum0;
  if (ROWS > 1u) { partial[64u + lane] = sum1; }
  if (ROWS > 2u) { partial[128u + lane] = sum2; }
  if (ROWS > 3u) { partial[192u + lane] = sum3; }
  if (ROWS > 4u) { partial[256u + lane] = sum4; }
  if (ROWS > 5u) { partial[320u + lane] = sum5; }
  if (ROWS > 6u) { partial[384u + lane] = sum6; }
  if (ROWS > 7u) { partial[448u + lane] = sum7; }
  workgroupBarrier();
  for (var o = lane; o < rowsPerGroup * ROWS; o += 64u) {
    let m = o / rowsPerGroup;
    let r = o % rowsPerGroup;
    let n = group * rowsPerGroup + r;
    if (n < params.outputSize) {
      var total = 0.0;
      for (var s = 0u; s < params.segments; s += 1u) {
        total = total + partial[m * 64u + r * params.segments + s];
      }
      if (params.hasBias == 1u) { total = total + bias[n]; }
      if (params.addOutput == 1u) { total = output[m * params.outputSize + n] + total; }
      output[m * params.outputSize + n] = total;
    }
  }
}
