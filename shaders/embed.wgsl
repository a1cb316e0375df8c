// embed.wgsl: gather the embedding rows of a pass's tokens, times a factor (1 in most models).
// In:  rows Rows; weight packed, and its scales (lib/packed.wgsl): rows firstToken.. of the embedding (V, D)
// Out: output (T, rowVectors) of vec4 f32, D floats of each row
// Dispatch: (ceil(words / 64), T) workgroups of 64, a lane per packed word. Overrides: FORMAT (0: f16, 1: q8, 2: q4).
//   Needs: nothing optional.
// Numerics: exact, but for the factor.
// Twin: test/reference/embed.ts
override FORMAT: u32;

struct Params {
  hiddenSize: u32,
  vocabSize: u32,
  segments: u32,
  segmentWords: u32,
  scale: f32,
  firstToken: u32,
  tokenCount: u32,  // rows of this part; the tokens of other parts are left to these
  rowVectors: u32,  // from one row of the output to the next
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rows: Rows;
@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;
@group(0) @binding(4) var<storage, read_write> output: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let t = id.y;
  let word = id.x;
  if (t >= rows.rowCount || word >= params.segments * params.segmentWords) {
    return;
  }
  // A draft whose logits were not finite proposes NO_TOKEN; any row will do, the target rejects it.
  let token = min(rows.row[t].token, params.vocabSize - 1u);
  if (token < params.firstToken || token - params.firstToken >= params.tokenCount) {
    return;
  }
  let step = word / params.segments;
  let segment = word % params.segments;
  let start = packed_row(token - params.firstToken, params.segments, params.segmentWords);
  let index = start + step * packed_stride(params.segments) + segment;
  let vectors = params.hiddenSize / 4u;
  var packed = weight[index];
  var scale = word_scales(index);
  for (var j = 0u; j < word_pieces(); j += 1u) {
    let values = first_piece(packed, scale.x);
    let first = piece_vector(step * word_pieces() + j, segment, params.segments);
    if (first < vectors) {
      output[t * params.rowVectors + first] = params.scale * values.low;
    }
    if (first + 1u < vectors) {
      output[t * params.rowVectors + first + 1u] = params.scale * values.high;
    }
    packed = next_piece(packed);
    scale = scale.yzwx;
  }
}
