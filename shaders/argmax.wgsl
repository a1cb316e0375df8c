// argmax.wgsl: the highest logit of each chunk of the vocabulary; ties take the lowest id.
// In:  rows Rows; logits (M, V) f32
// Out: candidates (M, chunks) of (value bits, id) u32
// Dispatch: (chunks, M) workgroups of 64, a workgroup per 1,024 logits. Overrides: none. Needs: nothing optional.
// Numerics: comparisons only. NaN and infinities are never chosen; a chunk without a finite logit gives NO_TOKEN.
// Twin: test/reference/argmax.ts
struct Params {
  vocabSize: u32,
  chunks: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rows: Rows;
@group(0) @binding(2) var<storage, read> logits: array<f32>;
@group(0) @binding(3) var<storage, read_write> candidates: array<vec2<u32>>;

const CHUNK = 1024u;
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  if (rows.rowCount == 0u) {
    return;
  }
  let end = min((group.x + 1u) * CHUNK, params.vocabSize);
  var value = LOWEST;
  var id = NO_TOKEN;
  for (var i = group.x * CHUNK + lane; i < end; i += 64u) {
    let logit = logits[group.y * params.vocabSize + i];
    if (is_finite(logit) && better(logit, i, value, id)) {
      value = logit;
      id = i;
    }
  }
  fold_best(lane, value, id);
  if (lane == 0u) {
    candidates[group.y * params.chunks + group.x] = vec2(bitcast<u32>(bestValue[0]), bestId[0]);
  }
}
