// residual.wgsl: the token after the accepted drafts (Leviathan et al. 2023, Algorithm 1): of max(0, p_target - p_draft)
//   where a draft was refused, of p_target after the last draft. Gumbel-max per chunk, folded by argmax_fold.wgsl.
// In:  state SequenceState; targetWarped (rows, Vt) f32; targetDistributions (rows,) vec4 f32;
//      draftWarped (rows, Vd) f32; draftDistributions (rows,) vec4 f32
// Out: candidates (slots, chunks) of (score bits, id) u32
// Dispatch: (chunks, slots) workgroups of 64, a workgroup per 1,024 tokens.
//   Overrides: POINT_DRAFT (1: drafts were not sampled, p_draft is 1 for each). Needs: nothing optional.
// Numerics: differences in f32. Where rounding leaves no residual at all, p_target decides: its scores lie 1,000 lower.
// Twin: test/reference/residual.ts
override POINT_DRAFT: u32;

struct Params {
  targetVocabSize: u32,
  draftVocabSize: u32,
  chunks: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> state: array<SequenceState>;
@group(0) @binding(2) var<storage, read> targetWarped: array<f32>;
@group(0) @binding(3) var<storage, read> targetDistributions: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> draftWarped: array<f32>;
@group(0) @binding(5) var<storage, read> draftDistributions: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> candidates: array<vec2<u32>>;

const CHUNK = 1024u;
const FALLBACK = -1000.0;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let slot = group.y;
  if (state[slot].turn == 0u || state[slot].sampling != SAMPLING_RANDOM || state[slot].finish != RUNNING) {
    return;
  }
  let accepted = state[slot].acceptedCount;
  let draftCount = select(state[slot].draftCount, 0u, state[slot].roundIndex == 0u);
  let refused = state[slot].drafts[min(accepted, MAX_DRAFTS - 1u)];
  let wasRefused = accepted < draftCount && refused != NO_TOKEN;
  let targetRow = state[slot].firstRow + accepted;
  let draftRow = state[slot].firstDraftRow + accepted;
  let seed = vec2(state[slot].seedLow, state[slot].seedHigh);
  let position = state[slot].length + accepted;
  let end = min((group.x + 1u) * CHUNK, params.targetVocabSize);
  var best = LOWEST;
  var id = NO_TOKEN;
  for (var token = group.x * CHUNK + lane; token < end; token += 64u) {
    let inTarget = probability(targetWarped[targetRow * params.targetVocabSize + token], targetDistributions[targetRow]);
    if (inTarget > 0.0) {
      var inDraft = 0.0;
      if (POINT_DRAFT == 1u) {
        inDraft = select(0.0, 1.0, wasRefused && token == refused);
      } else if (wasRefused && token < params.draftVocabSize) {
        inDraft = probability(draftWarped[draftRow * params.draftVocabSize + token], draftDistributions[draftRow]);
      }
      var score = log(inTarget) + FALLBACK;
      if (inTarget > inDraft) {
        score = log(inTarget - inDraft);
      }
      score += gumbel(random_bits(seed, position, RESIDUAL, token));
      if (better(score, token, best, id)) {
        best = score;
        id = token;
      }
    }
  }
  fold_best(lane, best, id);
  if (lane == 0u) {
    candidates[slot * params.chunks + group.x] = vec2(bitcast<u32>(bestValue[0]), bestId[0]);
  }
}
