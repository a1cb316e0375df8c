// attention.wgsl: one block of 64 absolute positions of causal attention (flash-decoding, Dao et al. 2023):
//   its maximum score, the sum of exponentials and the weighted values, folded over blocks by attention_fold.wgsl.
//   Up to 8 queries, heads of one key/value head and rows of one query group, share each load of its keys and values.
// In:  rows Rows; query (T, H, headDim) f32; keys (pages, K, headDim / 4, 64) of four f16;
//      values (pages, K, 64, headDim / 4) of four f16; blockTable (slots, blocks) u32
// Out: partials (T, H, blocks, headDim / 4 + 1) of vec4 f32: weighted values, then (maximum, sum, 0, 0)
// Dispatch: (blocks, K, query groups · ceil(H / K / 8)) workgroups of 64; the host's upper bounds set blocks and groups.
//   Overrides: HEAD_DIM, QUERIES (most queries of a workgroup: 1, 2, 4, 8). Needs: nothing optional.
// Numerics: blocks lie at absolute positions, and a query is summed alike whichever others it shares a workgroup with, so
//   a row's bits do not depend on the pass that computes it. Maximum and sum: every 8th position per lane, lanes folded
//   left to right; values: 64 / (headDim / 4) parts of neighbouring positions, each ascending, folded left to right.
// Twin: test/reference/attention.ts
override HEAD_DIM: u32;
override QUERIES: u32;

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
@group(0) @binding(3) var<storage, read> keys: array<vec2<u32>>;
@group(0) @binding(4) var<storage, read> values: array<vec2<u32>>;
@group(0) @binding(5) var<storage, read> blockTable: array<u32>;
@group(0) @binding(6) var<storage, read_write> partials: array<vec4<f32>>;

const SHARED_QUERIES = 8u;  // that a workgroup may get: with fewer to a pass, a pipeline for fewer serves it
const LOWEST = -3.4028234e38;  // the score of a position that a query does not see
var<workgroup> scores: array<f32, QUERIES * 64u>;       // (queries, 64 positions), then their exponentials
var<workgroup> folded: array<f32, QUERIES * 8u>;        // (queries, 8 lanes)
var<workgroup> highest: array<f32, QUERIES>;            // (queries,)
var<workgroup> parts: array<vec4<f32>, QUERIES * 64u>;  // (queries, lanes)

// The positions of the block that a row sees, from x to before y.
fn seen_by(t: u32, block: u32) -> vec2<u32> {
  let position = rows.row[t].position;
  let begin = first_seen(position, params.window);
  return clamp(vec2(begin, position + 1u), vec2(block * 64u), vec2(block * 64u + 64u)) - vec2(block * 64u);
}

// A query's row and head: its index in (T, H).
fn query_index(firstRow: u32, q: u32, kvHead: u32, headsPerKv: u32) -> u32 {
  return (firstRow + q / headsPerKv) * params.headCount + kvHead * headsPerKv + q % headsPerKv;
}

fn add_product(sum: f32, index: u32, k: vec4<f32>) -> f32 {
  let q = query[index];
  var total = sum;
  total = total + q.x * k.x;
  total = total + q.y * k.y;
  total = total + q.z * k.z;
  total = total + q.w * k.w;
  return total;
}

// Four vectors of a key, which were all under way at once, times those of a query; `left` of them are in the head.
fn add_products(sum: f32, index: u32, left: u32, k0: vec4<f32>, k1: vec4<f32>, k2: vec4<f32>, k3: vec4<f32>) -> f32 {
  var total = add_product(sum, index, k0);
  if (HEAD_DIM % 16u == 0u || left > 1u) { total = add_product(total, index + 1u, k1); }
  if (HEAD_DIM % 16u == 0u || left > 2u) { total = add_product(total, index + 2u, k2); }
  if (HEAD_DIM % 16u == 0u || left > 3u) { total = add_product(total, index + 3u, k3); }
  return total;
}

// A value of weight 0 is not added: what lies at positions that a query does not see may be no number.
fn add_value(total: vec4<f32>, weight: f32, value: vec4<f32>) -> vec4<f32> {
  return select(total + weight * value, total, weight == 0.0);
}

// Four neighbouring positions, as far as they lie before `end`, onto the sum of query j.
fn add_values(sum: vec4<f32>, j: u32, i: u32, end: u32, v0: vec4<f32>, v1: vec4<f32>, v2: vec4<f32>, v3: vec4<f32>) -> vec4<f32> {
  let at = j * 64u + i;
  var total = add_value(sum, scores[at], v0);
  total = add_value(total, select(0.0, scores[min(at + 1u, QUERIES * 64u - 1u)], i + 1u < end), v1);
  total = add_value(total, select(0.0, scores[min(at + 2u, QUERIES * 64u - 1u)], i + 2u < end), v2);
  return add_value(total, select(0.0, scores[min(at + 3u, QUERIES * 64u - 1u)], i + 3u < end), v3);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let block = group.x;
  let kvHead = group.y;
  let headsPerKv = params.headCount / params.kvHeadCount;
  // A key/value head of more than 8 heads takes several workgroups.
  let partsPerGroup = (headsPerKv + SHARED_QUERIES - 1u) / SHARED_QUERIES;
  let groupIndex = group.z / partsPerGroup;
  if (groupIndex >= rows.groupCount) {
    return;
  }
  let queryGroup = rows.row[groupIndex].group;
  let firstRow = queryGroup & 0xffffu;
  let first = (group.z % partsPerGroup) * SHARED_QUERIES;  // of the group's queries
  let count = min(SHARED_QUERIES, (queryGroup >> 16u) * headsPerKv - first);
  var seen = vec2(64u, 0u);  // by any of the queries
  for (var j = 0u; j < count; j += 1u) {
    let own = seen_by(firstRow + (first + j) / headsPerKv, block);
    if (own.x < own.y) {
      seen = vec2(min(seen.x, own.x), max(seen.y, own.y));
    }
  }
  if (seen.x >= seen.y) {
    return;
  }
  let slot = rows.row[firstRow].slot;
  let page = blockTable[slot * params.blocksPerSlot + block] * params.kvHeadCount + kvHead;
  let quads = HEAD_DIM / 4u;

  if (lane >= seen.x && lane < seen.y) {
    // Named sums: an indexed local array would spill to memory.
    var score0 = 0.0;
    var score1 = 0.0;
    var score2 = 0.0;
    var score3 = 0.0;
    var score4 = 0.0;
    var score5 = 0.0;
    var score6 = 0.0;
    var score7 = 0.0;
    let query0 = query_index(firstRow, first, kvHead, headsPerKv) * quads;
    let query1 = query_index(firstRow, first + 1u, kvHead, headsPerKv) * quads;
    let query2 = query_index(firstRow, first + 2u, kvHead, headsPerKv) * quads;
    let query3 = query_index(firstRow, first + 3u, kvHead, headsPerKv) * quads;
    let query4 = query_index(firstRow, first + 4u, kvHead, headsPerKv) * quads;
    let query5 = query_index(firstRow, first + 5u, kvHead, headsPerKv) * quads;
    let query6 = query_index(firstRow, first + 6u, kvHead, headsPerKv) * quads;
    let query7 = query_index(firstRow, first + 7u, kvHead, headsPerKv) * quads;
    for (var i = 0u; i < quads; i += 4u) {
      let k0 = unpack_halves(keys[(page * quads + i) * 64u + lane]);
      let k1 = unpack_halves(keys[(page * quads + min(i + 1u, quads - 1u)) * 64u + lane]);
      let k2 = unpack_halves(keys[(page * quads + min(i + 2u, quads - 1u)) * 64u + lane]);
      let k3 = unpack_halves(keys[(page * quads + min(i + 3u, quads - 1u)) * 64u + lane]);
      score0 = add_products(score0, query0 + i, quads - i, k0, k1, k2, k3);
      if (QUERIES > 1u && count > 1u) { score1 = add_products(score1, query1 + i, quads - i, k0, k1, k2, k3); }
      if (QUERIES > 2u && count > 2u) { score2 = add_products(score2, query2 + i, quads - i, k0, k1, k2, k3); }
      if (QUERIES > 3u && count > 3u) { score3 = add_products(score3, query3 + i, quads - i, k0, k1, k2, k3); }
      if (QUERIES > 4u && count > 4u) { score4 = add_products(score4, query4 + i, quads - i, k0, k1, k2, k3); }
      if (QUERIES > 5u && count > 5u) { score5 = add_products(score5, query5 + i, quads - i, k0, k1, k2, k3); }
      if (QUERIES > 6u && count > 6u) { score6 = add_products(score6, query6 + i, quads - i, k0, k1, k2, k3); }
      if (QUERIES > 7u && count > 7u) { score7 = add_products(score7, query7 + i, quads - i, k0, k1, k2, k3); }
    }
    scores[lane] = score0;
    if (QUERIES > 1u) { scores[64u + lane] = score1; }
    if (QUERIES > 2u) { scores[128u + lane] = score2; }
    if (QUERIES > 3u) { scores[192u + lane] = score3; }
    if (QUERIES > 4u) { scores[256u + lane] = score4; }
    if (QUERIES > 5u) { scores[320u + lane] = score5; }
    if (QUERIES > 6u) { scores[384u + lane] = score6; }
    if (QUERIES > 7u) { scores[448u + lane] = score7; }
  }
  workgroupBarrier();

  // From here on 8 lanes serve a query.
  let serves = lane < QUERIES * 8u;
  let j = lane / 8u;
  let part8 = lane % 8u;
  let own = seen_by(firstRow + (first + min(j, count - 1u)) / headsPerKv, block);
  var most = LOWEST;
  if (serves) {
    for (var i = part8; i < 64u; i += 8u) {
      if (i >= own.x && i < own.y) {
        most = max(most, scores[j * 64u + i] * params.scale);
      }
    }
    folded[lane] = most;
  }
  workgroupBarrier();
  if (serves && part8 == 0u) {
    for (var i = 1u; i < 8u; i += 1u) {
      most = max(most, folded[lane + i]);
    }
    highest[j] = most;
  }
  workgroupBarrier();
  var sum = 0.0;
  if (serves) {
    for (var i = part8; i < 64u; i += 8u) {
      var weight = 0.0;
      if (i >= own.x && i < own.y) {
        weight = exp(scores[j * 64u + i] * params.scale - highest[j]);
      }
      scores[j * 64u + i] = weight;
      sum = sum + weight;
    }
    folded[lane] = sum;
  }
  workgroupBarrier();
  if (serves && part8 == 0u && j < count) {
    for (var i = 1u; i < 8u; i += 1u) {
      sum = sum + folded[lane + i];
    }
    let base = (query_index(firstRow, first + j, kvHead, headsPerKv) * params.blocksPerSlot + block) * (quads + 1u);
    partials[base + quads] = vec4(highest[j], sum, 0.0, 0.0);
  }

  // Lanes take a vector of four dimensions each, and where lanes are left, a part of the positions.
  for (var firstQuad = 0u; firstQuad < quads; firstQuad += 64u) {
    let width = min(quads - firstQuad, 64u);
    let partCount = 64u / width;
    let positions = (63u + partCount) / partCount;  // of each part
    let part = lane / width;
    let quad = firstQuad + lane % width;
    var total0 = vec4(0.0);
    var total1 = vec4(0.0);
    var total2 = vec4(0.0);
    var total3 = vec4(0.0);
    var total4 = vec4(0.0);
    var total5 = vec4(0.0);
    var total6 = vec4(0.0);
    var total7 = vec4(0.0);
    let end = select(min((part + 1u) * positions, seen.y), 0u, part >= partCount);
    for (var i = max(part * positions, seen.x); i < end; i += 4u) {
      let v0 = unpack_halves(values[(page * 64u + i) * quads + quad]);
      let v1 = unpack_halves(values[(page * 64u + min(i + 1u, 63u)) * quads + quad]);
      let v2 = unpack_halves(values[(page * 64u + min(i + 2u, 63u)) * quads + quad]);
      let v3 = unpack_halves(values[(page * 64u + min(i + 3u, 63u)) * quads + quad]);
      total0 = add_values(total0, 0u, i, end, v0, v1, v2, v3);
      if (QUERIES > 1u && count > 1u) { total1 = add_values(total1, 1u, i, end, v0, v1, v2, v3); }
      if (QUERIES > 2u && count > 2u) { total2 = add_values(total2, 2u, i, end, v0, v1, v2, v3); }
      if (QUERIES > 3u && count > 3u) { total3 = add_values(total3, 3u, i, end, v0, v1, v2, v3); }
      if (QUERIES > 4u && count > 4u) { total4 = add_values(total4, 4u, i, end, v0, v1, v2, v3); }
      if (QUERIES > 5u && count > 5u) { total5 = add_values(total5, 5u, i, end, v0, v1, v2, v3); }
      if (QUERIES > 6u && count > 6u) { total6 = add_values(total6, 6u, i, end, v0, v1, v2, v3); }
      if (QUERIES > 7u && count > 7u) { total7 = add_values(total7, 7u, i, end, v0, v1, v2, v3); }
    }
    parts[lane] = total0;
    if (QUERIES > 1u) { parts[64u + lane] = total1; }
    if (QUERIES > 2u) { parts[128u + lane] = total2; }
    if (QUERIES > 3u) { parts[192u + lane] = total3; }
    if (QUERIES > 4u) { parts[256u + lane] = total4; }
    if (QUERIES > 5u) { parts[320u + lane] = total5; }
    if (QUERIES > 6u) { parts[384u + lane] = total6; }
    if (QUERIES > 7u) { parts[448u + lane] = total7; }
    workgroupBarrier();
    for (var o = lane; o < count * width; o += 64u) {
      let q = o / width;
      var total = parts[q * 64u + o % width];
      for (var p = 1u; p < partCount; p += 1u) {
        total = total + parts[q * 64u + p * width + o % width];
      }
      let base = (query_index(firstRow, first + q, kvHead, headsPerKv) * params.blocksPerSlot + block) * (quads + 1u);
      partials[base + firstQuad + o % width] = total;
    }
    workgroupBarrier();
  }
}
