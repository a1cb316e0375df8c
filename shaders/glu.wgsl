// glu.wgsl: a gated linear unit's product, activation(gate) · up (Shazeer 2020).
// In:  rows Rows; gateUp (T, 2F) f32, gate first
// Out: output (T, F) f32
// Dispatch: (ceil(F / 4 / 64), T) workgroups of 64, a lane per vector. Overrides: GELU (0: silu,
//   1: gelu in its tanh form, Hendrycks & Gimpel 2016). Needs: nothing optional.
// Numerics: elementwise in f32.
// Twin: test/reference/glu.ts
override GELU: u32;

struct Params {
  ffnVectors: u32,  // F / 4
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rows: Rows;
@group(0) @binding(2) var<storage, read> gateUp: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> output: array<vec4<f32>>;

fn activate(x: vec4<f32>) -> vec4<f32> {
  if (GELU == 1u) {
    // 0.5 · (1 + tanh(z)) is the logistic function of 2z, which does not overflow.
    let z = 0.7978845608 * (x + 0.044715 * x * x * x);
    return x / (1.0 + exp(-2.0 * z));
  }
  return x / (1.0 + exp(-x));
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let t = id.y;
  if (t >= rows.rowCount || id.x >= params.ffnVectors) {
    return;
  }
  let gate = gateUp[t * 2u * params.ffnVectors + id.x];
  let up = gateUp[(t * 2u + 1u) * params.ffnVectors + id.x];
  output[t * params.ffnVectors + id.x] = activate(gate) * up;
}
