// attention_tile.wgsl: causal attention of many rows (prefill): attention.wgsl and its fold in one, a workgroup over all blocks
//   that its queries see. Nothing is left in memory but the output; the rows alone keep the device busy.
// In:  rows, query, keys, values, blockTable as in attention.wgsl
// Out: output (T, H · headDim) f32
// Dispatch: (1, K, query groups · partsPerGroup) workgroups of 64. Overrides: HEAD_DIM, QUERIES (of a workgroup).
//   Needs: nothing optional.
// Numerics: of lib/attend.wgsl and lib/fold.wgsl: a row gets the bits that attention.wgsl and attention_fold.wgsl give it.
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
@group(0) @binding(6) var<storage, read_write> output: array<vec4<f32>>;

var<workgroup> sums: array<f32, QUERIES>;          // of the block
var<workgroup> foldedHighest: array<f32, QUERIES>; // of all blocks so far
var<workgroup> foldedSums: array<f32, QUERIES>;
var<workgroup> foldedValues: array<vec4<f32>, QUERIES * HEAD_DIM / 4u>;

fn sees(queries: Queries, block: u32, j: u32) -> bool {
  let own = seen_by(row_of(queries, j), block);
  return own.x < own.y;
}

fn keep_sum(queries: Queries, block: u32, j: u32, sum: f32) {
  sums[j] = sum;
}

fn keep_values(queries: Queries, block: u32, j: u32, quad: u32, total: vec4<f32>) {
  if (sees(queries, block, j)) {
    let at = j * (HEAD_DIM / 4u) + quad;
    foldedValues[at] = fold_values(foldedValues[at], foldedHighest[j], total, highest[j]);
  }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let queries = queries_of(group.y, group.z, QUERIES);
  if (queries.count == 0u) {
    return;
  }
  let size = queries.count * (HEAD_DIM / 4u);
  for (var i = lane; i < size; i += 64u) {
    foldedValues[i] = vec4(0.0);
  }
  if (lane < queries.count) {
    foldedHighest[lane] = FOLD_START;
    foldedSums[lane] = 0.0;
  }
  // Positions ascend with the rows of a group.
  let begin = first_seen(rows.row[queries.firstRow + queries.first / queries.headsPerKv].position, params.window) / 64u;
  let end = rows.row[row_of(queries, queries.count - 1u)].position / 64u + 1u;
  for (var block = begin; block < end; block += 1u) {
    attend(lane, queries, block, seen_by_any(queries, block));
    if (lane < queries.count && sees(queries, block, lane)) {
      foldedSums[lane] = fold_sum(foldedSums[lane], foldedHighest[lane], sums[lane], highest[lane]);
      foldedHighest[lane] = max(foldedHighest[lane], highest[lane]);
    }
    workgroupBarrier();
  }
  for (var i = lane; i < size; i += 64u) {
    let j = i / (HEAD_DIM / 4u);
    output[query_index(queries, j) * (HEAD_DIM / 4u) + i % (HEAD_DIM / 4u)] = foldedValues[i] / foldedSums[j];
  }
}
