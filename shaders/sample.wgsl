// sample.wgsl: a token of each distribution by the Gumbel-max trick: the highest of logit + noise, per chunk of the
//   vocabulary, folded by argmax_fold.wgsl. Seeded requests take noise that couples draft and target (arXiv 2408.07978),
//   unseeded ones the draft's own; greedy ones, in a round beside those, none.
// In:  rows Rows; state SequenceState; warped (distributions, V) f32; distributions (distributions,) vec4 f32
// Out: candidates (M, chunks) of (score bits, id) u32
// Dispatch: (chunks, M) workgroups of 64, a workgroup per 1,024 logits. Overrides: none. Needs: nothing optional.
// Numerics: noise keyed by (seed, position, purpose, token): bit-equal in every pass of one device.
// Twin: test/reference/sample.ts
struct Params {
  vocabSize: u32,
  chunks: u32,
  firstRow: u32,  // distribution row of output row 0; ofDrafts: from a sequence's first draft row
  rowStride: u32,
  ofDrafts: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rows: Rows;
@group(0) @binding(2) var<storage, read> state: array<SequenceState>;
@group(0) @binding(3) var<storage, read> warped: array<f32>;
@group(0) @binding(4) var<storage, read> distributions: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> candidates: array<vec2<u32>>;

const CHUNK = 1024u;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let t = rows.firstOutputRow + group.y;
  if (t >= rows.rowCount) {
    return;
  }
  let slot = rows.row[t].slot;
  let position = rows.row[t].position + 1u;
  let seed = vec2(state[slot].seedLow, state[slot].seedHigh);
  let row = params.firstRow + select(group.y * params.rowStride, state[slot].firstDraftRow, params.ofDrafts == 1u);
  let isDrawn = state[slot].sampling >= SAMPLING_SEEDED;
  let purpose = select(SHARED, DRAFT, state[slot].sampling == SAMPLING_RANDOM);
  let threshold = select(LOWEST, distributions[row].y, isDrawn);
  let end = min((group.x + 1u) * CHUNK, params.vocabSize);
  var best = LOWEST;
  var id = NO_TOKEN;
  for (var token = group.x * CHUNK + lane; token < end; token += 64u) {
    let logit = warped[row * params.vocabSize + token];
    if (is_finite(logit) && logit >= threshold) {
      var score = logit;
      if (isDrawn) {
        score += gumbel(random_bits(seed, position, purpose, token));
      }
      if (better(score, token, best, id)) {
        best = score;
        id = token;
      }
    }
  }
  fold_best(lane, best, id);
  if (lane == 0u) {
    candidates[group.y * params.chunks + group.x] = vec2(bitcast<u32>(bestValue[0]), bestId[0]);
  }
}
