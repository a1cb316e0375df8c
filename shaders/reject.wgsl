// reject.wgsl: how many drafts the target accepts (Leviathan et al. 2023, Algorithm 1): a draft with probability
//   min(1, p_target / p_draft), up to the first that is refused.
// In:  targetWarped (rows, Vt) f32; targetDistributions (rows,) vec4 f32; draftWarped (rows, Vd) f32;
//      draftDistributions (rows,) vec4 f32
// Out: state SequenceState (acceptedCount)
// Dispatch: 1 workgroup of 1 per slot. Overrides: POINT_DRAFT (1: drafts were not sampled, p_draft is 1 for each).
//   Needs: nothing optional.
// Numerics: u · p_draft < p_target in f32, u from lib/random.wgsl, independent of the noise that chose the draft.
// Twin: test/reference/reject.ts
override POINT_DRAFT: u32;

struct Params {
  targetVocabSize: u32,
  draftVocabSize: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> targetWarped: array<f32>;
@group(0) @binding(2) var<storage, read> targetDistributions: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> draftWarped: array<f32>;
@group(0) @binding(4) var<storage, read> draftDistributions: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> state: array<SequenceState>;

fn is_accepted(slot: u32, index: u32) -> bool {
  let draft = state[slot].drafts[index];
  if (draft >= params.targetVocabSize || (POINT_DRAFT == 0u && draft >= params.draftVocabSize)) {
    return false;  // NO_TOKEN too: a draft model without finite logits proposes nothing
  }
  let targetRow = state[slot].firstRow + index;
  let inTarget = probability(targetWarped[targetRow * params.targetVocabSize + draft], targetDistributions[targetRow]);
  var inDraft = 1.0;
  if (POINT_DRAFT == 0u) {
    let draftRow = state[slot].firstDraftRow + index;
    inDraft = probability(draftWarped[draftRow * params.draftVocabSize + draft], draftDistributions[draftRow]);
  }
  let seed = vec2(state[slot].seedLow, state[slot].seedHigh);
  let u = uniform_of(random_bits(seed, state[slot].length + index, ACCEPT, 0u));
  return u * inDraft < inTarget;
}

@compute @workgroup_size(1)
fn main(@builtin(workgroup_id) group: vec3<u32>) {
  let slot = group.x;
  if (state[slot].turn == 0u || state[slot].sampling != SAMPLING_RANDOM || state[slot].finish != RUNNING) {
    return;
  }
  let draftCount = select(state[slot].draftCount, 0u, state[slot].roundIndex == 0u);
  var accepted = 0u;
  while (accepted < draftCount && is_accepted(slot, accepted)) {
    accepted += 1u;
  }
  state[slot].acceptedCount = accepted;
}
