// Attention of up to QUERIES queries to one block of 64 absolute positions: maximum score, sum of exponentials, weighted
// values. The queries are heads of one key/value head and rows of one query group, and share each load of its keys and
// values. attention.wgsl leaves them to attention_fold.wgsl, attention_tile.wgsl folds block onto block.
// Expects lib/scores.wgsl and what that expects, QUERIES, `params` (headCount, kvHeadCount, blocksPerSlot, partsPerGroup,
// scale), `keys`, `values` and `blockTable` of attention.wgsl; and what it calls with the results: keep_sum and keep_values.
// Numerics: a query is summed alike whichever others it shares a workgroup with. Maximum and sum: every 8th position per
//   lane, lanes folded left to right; values: 64 / (headDim / 4) parts of neighbouring positions, each ascending, folded
//   left to right.

var<workgroup> scores: array<f32, QUERIES * 64u>;       // (queries, 64 positions), then their exponentials
var<workgroup> folded: array<f32, QUERIES * 8u>;        // (queries, 8 lanes)
var<workgroup> highest: array<f32, QUERIES>;            // (queries,)
var<workgroup> parts: array<vec4<f32>, QUERIES * 64u>;  // (queries, lanes)

// What a workgroup attends for: `count` queries of a query group, from its query `first` on.
struct Queries {
  slot: u32,
  firstRow: u32,    // of the group
  first: u32,
  count: u32,
  kvHead: u32,
  headsPerKv: u32,
}

// Of query group and part z; count 0: there are none.
fn queries_of(kvHead: u32, z: u32, most: u32) -> Queries {
  let index = z / params.partsPerGroup;
  if (index >= rows.groupCount) {
    return Queries();
  }
  let headsPerKv = params.headCount / params.kvHeadCount;
  let group = rows.row[index].group;
  let firstRow = group & 0xffffu;
  let first = (z % params.partsPerGroup) * most;
  let all = (group >> 16u) * headsPerKv;
  return Queries(rows.row[firstRow].slot, firstRow, first, min(most, all - min(first, all)), kvHead, headsPerKv);
}

// Row of query j of a workgroup.
fn row_of(queries: Queries, j: u32) -> u32 {
  return queries.firstRow + (queries.first + j) / queries.headsPerKv;
}

// Its row and head: its index in (T, H).
fn query_index(queries: Queries, j: u32) -> u32 {
  let head = queries.kvHead * queries.headsPerKv + (queries.first + j) % queries.headsPerKv;
  return row_of(queries, j) * params.headCount + head;
}

// The positions of the block that any of them sees, as seen_by.
fn seen_by_any(queries: Queries, block: u32) -> vec2<u32> {
  var seen = vec2(64u, 0u);
  for (var j = 0u; j < queries.count; j += 1u) {
    let own = seen_by(row_of(queries, j), block);
    if (own.x < own.y) {
      seen = vec2(min(seen.x, own.x), max(seen.y, own.y));
    }
  }
  return seen;
}

// Four neighbouring positions, as far as they lie before `end`, onto the sum of query j.
fn add_values(sum: vec4<f32>, j: u32, i: u32, end: u32, v0: vec4<f32>, v1: vec4<f32>, v2: vec4<f32>, v3: vec4<f32>) -> vec4<f32> {
  let at = j * 64u + i;
  var total = add_value(sum, scores[at], v0);
  total = add_value(total, select(0.0, scores[min(at + 1u, QUERIES * 64u - 1u)], i + 1u < end), v1);
  total = add_value(total, select(0.0, scores[min(at + 2u, QUERIES * 64u - 1u)], i + 2u < end), v2);
  return add_value(total, select(0.0, scores[min(at + 3u, QUERIES * 64u - 1u)], i + 3u < end), v3);
}

// `seen`: by any of the queries. Each result is kept by one lane: sums before the barriers behind which `highest` is read
// for the values, the values of a query and four dimensions by the same lane in every block.
fn attend(lane: u32, queries: Queries, block: u32, seen: vec2<u32>) {
  let page = blockTable[queries.slot * params.blocksPerSlot + block] * params.kvHeadCount + queries.kvHead;
  let quads = HEAD_DIM / 4u;
  let count = queries.count;

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
    let query0 = query_index(queries, 0u) * quads;
    let query1 = query_index(queries, 1u) * quads;
    let query2 = query_index(queries, 2u) * quads;
    let query3 = query_index(queries, 3u) * quads;
    let query4 = query_index(queries, 4u) * quads;
    let query5 = query_index(queries, 5u) * quads;
    let query6 = query_index(queries, 6u) * quads;
    let query7 = query_index(queries, 7u) * quads;
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
  let own = seen_by(row_of(queries, min(j, count - 1u)), block);
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
    keep_sum(queries, block, j, sum);
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
      keep_values(queries, block, q, firstQuad + o % width, total);
    }
    workgroupBarrier();
  }
}
