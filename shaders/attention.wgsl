// attention.wgsl: one block of 64 absolute positions of causal attention (flash-decoding, Dao et al. 2023):
//   its maximum score, the sum of exponentials and the weighted values, folded over blocks by attention_fold.wgsl.
//   Up to 8 queries share each load of keys and values (lib/attend.wgsl).
// In:  rows Rows; query (T, H, headDim) f32; keys (pages, K, headDim / 4, 64) of four f16;
//      values (pages, K, 64, headDim / 4) of four f16; blockTable (slots, blocks) u32
// Out: partials (T, H, blocks, headDim / 4 + 1) of vec4 f32: weighted values, then (maximum, sum, 0, 0)
// Dispatch: (blocks, K, query groups · ceil(H / K / 8)) workgroups of 64; the host's upper bounds set blocks and groups.
//   Overrides: HEAD_DIM, QUERIES (most queries of a workgroup: 1, 2, 4, 8). Needs: nothing optional.
// Numerics: of lib/attend.wgsl; blocks lie at absolute positions, so a row's bits do not depend on the pass that computes it.
// Twin: test/reference/attention.ts
override HEAD_DIM: u32;
override QUERIES: u32;

struct Params {
  headCount: u32,
  kvHeadCount: u32,
  blocksPerSlot: u32,
  partsPerGroup: u32,  // workgroups that share the queries of a group
  scale: f32,   // of q · k, 1 / sqrt(headDim) in most models
  window: u32,  // positions that a row sees, its own included; 0: all before it
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rows: Rows;
@group(0) @binding(2) var<storage, read> query: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> keys: array<vec2<u32>>;
@group(0) @binding(4) var<storage, read> values: array<vec2<u32>>;
@group(0) @binding(5) var<storage, read> blockTable: array<u32>;
@group(0) @binding(6) var<storage, read_write> partials: array<vec4<f32>>;

const SHARED_QUERIES = 8u;  // that a workgroup may get: with fewer to a pass, a pipeline for fewer serves it

fn first_partial(queries: Queries, block: u32, j: u32) -> u32 {
  return (query_index(queries, j) * params.blocksPerSlot + block) * (HEAD_DIM / 4u + 1u);
}

fn keep_sum(queries: Queries, block: u32, j: u32, sum: f32) {
  partials[first_partial(queries, block, j) + HEAD_DIM / 4u] = vec4(highest[j], sum, 0.0, 0.0);
}

fn keep_values(queries: Queries, block: u32, j: u32, quad: u32, total: vec4<f32>) {
  partials[first_partial(queries, block, j) + quad] = total;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let queries = queries_of(group.y, group.z, SHARED_QUERIES);
  let seen = seen_by_any(queries, group.x);
  if (seen.x >= seen.y) {
    return;
  }
  attend(lane, queries, group.x, seen);
}
