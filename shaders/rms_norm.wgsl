// rms_norm.wgsl: y = x / sqrt(mean(x²) + epsilon) · weight (Zhang & Sennrich 2019) of the rows that get logits.
// In:  rows Rows; input (T, rowVectors) of vec4 f32, D floats of each row; weight (D,) f32
// Out: output (output rows, D) f32
// Dispatch: (1, output rows) workgroups of 64, a workgroup per row. Overrides: none. Needs: nothing optional.
// Numerics: each lane sums every 64th vector in ascending order, lanes fold as a tree of width 64.
// Twin: test/reference/rms_norm.ts
struct Params {
  hiddenSize: u32,
  epsilon: f32,
  rowVectors: u32,  // from one row of the input to the next
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rows: Rows;
@group(0) @binding(2) var<storage, read> input: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> weight: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> output: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let t = rows.firstOutputRow + group.y;
  if (t >= rows.rowCount) {
    return;
  }
  let vectors = params.hiddenSize / 4u;
  var sum = 0.0;
  for (var i = lane; i < vectors; i += 64u) {
    let x = input[t * params.rowVectors + i];
    sum = sum + x.x * x.x;
    sum = sum + x.y * x.y;
    sum = sum + x.z * x.z;
    sum = sum + x.w * x.w;
  }
  let scale = inverseSqrt(reduce_sum(lane, sum) / f32(params.hiddenSize) + params.epsilon);
  for (var i = lane; i < vectors; i += 64u) {
    output[group.y * vectors + i] = input[t * params.rowVectors + i] * scale * weight[i];
  }
}
