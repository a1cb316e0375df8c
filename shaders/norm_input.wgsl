// norm_input.wgsl: what a matmul behind an RMS norm (Zhang & Sennrich 2019) reads of the residual stream, made of its hidden
//   states: these times the weights of the norm, their sums of squares, and 1 / their root mean square (lib/stream.wgsl).
//   Where a model has norms behind its blocks, the hidden states first get a block's output, normalised.
// In:  rows Rows; weight (D,) f32: of the norm to come; added (T, D) f32: a block's output; addedNorm (D,) f32: of its norm
// Out: stream (T, rowSize) f32, of which the hidden states are read
// Dispatch: (1, T) workgroups of 64, a workgroup per row. Overrides: ADD (1: there is an output to add).
//   Needs: nothing optional.
// Numerics: sums of squares in the order of lib/stream.wgsl, as matmul_rows.wgsl makes them for the states that it makes;
//   those of `added`: each lane every 64th value in ascending order, lanes folded as a tree of width 64.
// Twin: test/reference/norm_input.ts
override ADD: u32;

struct Params {
  hiddenSize: u32,   // D
  rowSize: u32,
  squareGroup: u32,  // hidden values to each sum of squares; 0: there is no norm to come
  epsilon: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rows: Rows;
@group(0) @binding(2) var<storage, read> weight: array<f32>;
@group(0) @binding(3) var<storage, read> added: array<f32>;
@group(0) @binding(4) var<storage, read> addedNorm: array<f32>;
@group(0) @binding(5) var<storage, read_write> stream: array<f32>;

var<workgroup> squares: array<f32, 8>;  // (parts,)

fn add_output(t: u32, lane: u32) {
  let first = t * params.hiddenSize;
  var sum = 0.0;
  for (var i = lane; i < params.hiddenSize; i += 64u) {
    sum = add_square(sum, added[first + i]);
  }
  let inverse = inverse_rms(reduce_sum(lane, sum), params.hiddenSize, params.epsilon);
  for (var i = lane; i < params.hiddenSize; i += 64u) {
    let index = t * params.rowSize + i;
    stream[index] = added[first + i] * inverse * addedNorm[i] + stream[index];
  }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  if (group.y >= rows.rowCount) {
    return;
  }
  if (ADD == 1u) {
    add_output(group.y, lane);
    storageBarrier();
  }
  if (params.squareGroup == 0u) {
    return;
  }
  let row = group.y * params.rowSize;
  let vectors = square_vectors(params.hiddenSize, params.squareGroup);
  let first = row + first_square(params.hiddenSize);
  for (var i = lane; i < params.hiddenSize; i += 64u) {
    stream[row + params.hiddenSize + i] = stream[row + i] * weight[i];
  }
  for (var i = lane; i < vectors * 4u; i += 64u) {
    let end = min((i + 1u) * params.squareGroup, params.hiddenSize);
    var sum = 0.0;
    for (var n = i * params.squareGroup; n < end; n += 1u) {
      sum = add_square(sum, stream[row + n]);
    }
    stream[first + i] = sum;
  }
  storageBarrier();
  if (lane < 8u) {
    var sum = 0.0;
    for (var i = lane; i < vectors; i += 8u) {
      let at = first + i * 4u;
      sum = add_squares(sum, vec4(stream[at], stream[at + 1u], stream[at + 2u], stream[at + 3u]));
    }
    squares[lane] = sum;
  }
  workgroupBarrier();
  if (lane == 0u) {
    var sum = 0.0;
    for (var part = 0u; part < 8u; part += 1u) {
      sum = sum + squares[part];
    }
    stream[row + 2u * params.hiddenSize] = inverse_rms(sum, params.hiddenSize, params.epsilon);
  }
}
