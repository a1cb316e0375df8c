// embed.wgsl: gather the embedding rows of a pass's tokens, times a factor (1 in most models).
// In:  rows Rows; weight (V, D) f16, packed
// Out: output (T, D) f32
// Dispatch: (ceil(D / 8 / 64), T) workgroups of 64, a lane per 8 values. Overrides: none. Needs: nothing optional.
// Numerics: exact, but for the factor.
// Twin: test/reference/embed.ts
struct Params {
  hiddenSize: u32,
  vocabSize: u32,
  segments: u32,
  segmentWords: u32,
  scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rows: Rows;
@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> output: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let t = id.y;
  let word = id.x;
  let vectors = params.hiddenSize / 4u;
  if (t >= rows.rowCount || word * 2u >= vectors) {
    return;
  }
  // A draft whose logits were not finite proposes NO_TOKEN; any row will do, the target rejects it.
  let token = min(rows.row[t].token, params.vocabSize - 1u);
  let packed = weight[packed_word(token, word, params.segments, params.segmentWords)];
  output[t * vectors + word * 2u] = params.scale * vec4(unpack2x16float(packed.x), unpack2x16float(packed.y));
  if (word * 2u + 1u < vectors) {
    output[t * vectors + word * 2u + 1u] = params.scale * vec4(unpack2x16float(packed.z), unpack2x16float(packed.w));
  }
}
