// tap.wgsl: keeps the hidden states of a pass as a layer leaves them, before the next one adds to them: what draft heads read
//   (EAGLE-3, Li et al. 2025).
// In:  rows Rows; stream (T, rowVectors) of vec4 f32, whose rows begin with the hidden state (lib/stream.wgsl)
// Out: tapped (T, taps, D / 4) of vec4 f32
// Dispatch: (ceil(D / 4 / 64), T) workgroups of 64, a lane per vector. Overrides: none. Needs: nothing optional.
// Numerics: copies.
// Twin: test/reference/forward.ts
struct Params {
  hiddenVectors: u32,  // D / 4
  rowVectors: u32,
  tapCount: u32,
  tap: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rows: Rows;
@group(0) @binding(2) var<storage, read> stream: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> tapped: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.y >= rows.rowCount || id.x >= params.hiddenVectors) {
    return;
  }
  let index = (id.y * params.tapCount + params.tap) * params.hiddenVectors + id.x;
  tapped[index] = stream[id.y * params.rowVectors + id.x];
}
