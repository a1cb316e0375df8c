// rms_norm.wgsl: y = x / sqrt(mean(x²) + epsilon) · weight (+ y) (Zhang & Sennrich 2019).
// In:  rows Rows; input (T, D) f32; weight (D,) f32
// Out: output (T, D) f32
// Dispatch: (1, T) workgroups of 64, a workgroup per row. Overrides: OUTPUT_ROWS (1: only the rows that get logits,
//   packed to the front of the output), ADD_OUTPUT (1: residual, adds to what is there). Needs: nothing optional.
// Numerics: each lane sums every 64th vector in ascending order, lanes fold as a tree of width 64.
// Twin: test/reference/rms_norm.ts
override OUTPUT_ROWS: u32;
override ADD_OUTPUT: u32;

struct Params {
  hiddenSize: u32,
  epsilon: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rows: Rows;
@group(0) @binding(2) var<storage, read> input: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> output: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let first = select(0u, rows.firstOutputRow, OUTPUT_ROWS == 1u);
  let t = first + group.y;
  if (t >= rows.rowCount) {
    return;
  }
  let vectors = params.hiddenSize / 4u;
  var sum = 0.0;
  for (var i = lane; i < vectors; i += 64u) {
    let x = input[t * vectors + i];
    sum = sum + x.x * x.x;
    sum = sum + x.y * x.y;
    sum = sum + x.z * x.z;
    sum = sum + x.w * x.w;
  }
  let scale = inverseSqrt(reduce_sum(lane, sum) / f32(params.hiddenSize) + params.epsilon);
  for (var i = lane; i < vectors; i += 64u) {
    var y = input[t * vectors + i] * scale * weight[i];
    if (ADD_OUTPUT == 1u) {
      y = y + output[group.y * vectors + i];
    }
    output[group.y * vectors + i] = y;
  }
}
