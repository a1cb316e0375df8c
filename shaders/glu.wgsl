// silu_mul.wgsl: SwiGLU's product, silu(gate) · up (Shazeer 2020).
// In:  rows Rows; gateUp (T, 2F) f32, gate first
// Out: output (T, F) f32
// Dispatch: (ceil(F / 4 / 64), T) workgroups of 64, a lane per vector. Overrides: none. Needs: nothing optional.
// Numerics: elementwise in f32.
// Twin: test/reference/silu_mul.ts
struct Params {
  ffnVectors: u32,  // F / 4
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rows: Rows;
@group(0) @binding(2) var<storage, read> gateUp: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> output: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let t = id.y;
  if (t >= rows.rowCount || id.x >= params.ffnVectors) {
    return;
  }
  let gate = gateUp[t * 2u * params.ffnVectors + id.x];
  let up = gateUp[(t * 2u + 1u) * params.ffnVectors + id.x];
  output[t * params.ffnVectors + id.x] = gate / (1.0 + exp(-gate)) * up;
}
