// attention.wgsl: one block of 64 absolute positions of causal attention (flash-decoding, Dao et al. 2023):
//   its maximum score, the sum of exponentials and the weighted values, folded over blocks by attention_fold.wgsl.
// In:  rows Rows; query (T, H, headDim) f32; keys (pages, K, headDim / 4, 64) of vec4 f32;
//      values (pages, K, 64, headDim) f32; blockTable (slots, blocks) u32
// Out: partials (T, H, blocks, headDim + 2) f32: weighted values, maximum, sum
// Dispatch: (blocks, H, T) workgroups of 64; the host's upper bound on the length sets blocks. Overrides: HEAD_DIM.
//   Needs: nothing optional.
// Numerics: blocks lie at absolute positions, so a row's bits do not depend on the pass that computes it.
// Twin: test/reference/attention.ts
override HEAD_DIM: u32;

struct Params {
  headCount: u32,
  kvHeadCount: u32,
  blocksPerSlot: u32,
  scale: f32,   // of q · k, 1 / sqrt(headDim) in most models
  window: u32,  // positions that a row sees, its own included; 0: all before it
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rows: Rows;
@group(0) @binding(2) var<storage, read> query: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> keys: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> values: array<f32>;
@group(0) @binding(5) var<storage, read> blockTable: array<u32>;
@group(0) @binding(6) var<storage, read_write> partials: array<f32>;

var<workgroup> queryTile: array<vec4<f32>, HEAD_DIM / 4u>;
var<workgroup> weights: array<f32, 64>;
const LOWEST = -3.4028234e38;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let block = group.x;
  let head = group.y;
  let t = group.z;
  if (t >= rows.rowCount) {
    return;
  }
  let row = rows.row[t];
  if (block * 64u > row.position) {
    return;
  }
  let count = min(64u, row.position - block * 64u + 1u);
  let seenFrom = first_seen(row.position, params.window);
  if (block * 64u + 63u < seenFrom) {
    return;
  }
  let firstSeen = max(seenFrom, block * 64u) - block * 64u;
  let kvHead = head / (params.headCount / params.kvHeadCount);
  let page = blockTable[row.slot * params.blocksPerSlot + block] * params.kvHeadCount + kvHead;
  let vectors = HEAD_DIM / 4u;
  for (var i = lane; i < vectors; i += 64u) {
    queryTile[i] = query[(t * params.headCount + head) * vectors + i] * params.scale;
  }
  workgroupBarrier();
  var score = LOWEST;
  let isSeen = lane >= firstSeen && lane < count;
  if (isSeen) {
    score = 0.0;
    for (var i = 0u; i < vectors; i += 1u) {
      let q = queryTile[i];
      let k = keys[(page * vectors + i) * 64u + lane];
      score = score + q.x * k.x;
      score = score + q.y * k.y;
      score = score + q.z * k.z;
      score = score + q.w * k.w;
    }
  }
  let highest = reduce_max(lane, score);
  let weight = select(0.0, exp(score - highest), isSeen);
  weights[lane] = weight;
  let sum = reduce_sum(lane, weight);  // its barriers publish `weights` too
  let base = ((t * params.headCount + head) * params.blocksPerSlot + block) * (HEAD_DIM + 2u);
  for (var dim = lane; dim < HEAD_DIM; dim += 64u) {
    var total = 0.0;
    for (var i = firstSeen; i < count; i += 1u) {
      total = total + weights[i] * values[(page * 64u + i) * HEAD_DIM + dim];
    }
    partials[base + dim] = total;
  }
  if (lane == 0u) {
    partials[base + HEAD_DIM] = highest;
    partials[base + HEAD_DIM + 1u] = sum;
  }
}
