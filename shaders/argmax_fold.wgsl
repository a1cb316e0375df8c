// argmax_fold.wgsl: the best of the chunks of argmax.wgsl.
// In:  rows Rows; candidates (M, chunks) of (value bits, id) u32
// Out: sampled (M,) u32: a token id, or NO_TOKEN where no logit is finite
// Dispatch: (1, M) workgroups of 64. Overrides: none. Needs: nothing optional.
// Numerics: comparisons only; ties take the lowest id.
// Twin: test/reference/argmax.ts
struct Params {
  chunks: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rows: Rows;
@group(0) @binding(2) var<storage, read> candidates: array<vec2<u32>>;
@group(0) @binding(3) var<storage, read_write> sampled: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  if (rows.rowCount == 0u) {
    return;
  }
  var value = LOWEST;
  var id = NO_TOKEN;
  for (var i = lane; i < params.chunks; i += 64u) {
    let candidate = candidates[group.y * params.chunks + i];
    if (better(bitcast<f32>(candidate.x), candidate.y, value, id)) {
      value = bitcast<f32>(candidate.x);
      id = candidate.y;
    }
  }
  fold_best(lane, value, id);
  if (lane == 0u) {
    sampled[group.y] = bestId[0];
  }
}
