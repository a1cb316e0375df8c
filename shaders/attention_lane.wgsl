// attention_lane.wgsl: what attention.wgsl makes, a lane by itself for a query and a block: no barrier, no workgroup memory. For
//   devices whose lanes are a CPU's, as matmul_lane.wgsl.
// In:  rows Rows; query (T, H, headDim) f32; keys (pages, K, headDim / 4, 64) of four f16;
//      values (pages, K, 64, headDim / 4) of four f16; blockTable (slots, blocks) u32
// Out: partials (T, H, blocks, headDim / 4 + 1) of vec4 f32, as attention.wgsl leaves them
// Dispatch: ceil(T · H · blocks / 16) workgroups of 16, folded into 2-D; the host's upper bound sets blocks.
//   Overrides: HEAD_DIM. Needs: nothing optional.
// Numerics: the order of lib/attend.wgsl.
// Twin: test/reference/attention.ts
override HEAD_DIM: u32;

struct Params {
  headCount: u32,
  kvHeadCount: u32,
  blocksPerSlot: u32,
  partsPerGroup: u32,  // not read
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

const LANES = 16u;  // few: what a device shares out among its cores are workgroups

@compute @workgroup_size(16)
fn main(
  @builtin(workgroup_id) id: vec3<u32>,
  @builtin(num_workgroups) counts: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let item = (id.x + id.y * counts.x) * LANES + lane;
  let queryCount = rows.rowCount * params.headCount;
  if (queryCount == 0u || item >= queryCount * params.blocksPerSlot) {
    return;
  }
  let block = item / queryCount;
  let queryIndex = item % queryCount;  // in (T, H)
  let t = queryIndex / params.headCount;
  let seen = seen_by(t, block);
  if (seen.x >= seen.y) {
    return;
  }
  let kvHead = queryIndex % params.headCount / (params.headCount / params.kvHeadCount);
  let page = blockTable[rows.row[t].slot * params.blocksPerSlot + block] * params.kvHeadCount + kvHead;
  let quads = HEAD_DIM / 4u;
  let partial = (queryIndex * params.blocksPerSlot + block) * (quads + 1u);

  var weights: array<f32, 64>;  // of the positions; first their scores
  var highest = LOWEST;
  for (var i = seen.x; i < seen.y; i += 1u) {
    var score = 0.0;
    for (var quad = 0u; quad < quads; quad += 4u) {
      let k0 = unpack_halves(keys[(page * quads + quad) * 64u + i]);
      let k1 = unpack_halves(keys[(page * quads + min(quad + 1u, quads - 1u)) * 64u + i]);
      let k2 = unpack_halves(keys[(page * quads + min(quad + 2u, quads - 1u)) * 64u + i]);
      let k3 = unpack_halves(keys[(page * quads + min(quad + 3u, quads - 1u)) * 64u + i]);
      score = add_products(score, queryIndex * quads + quad, quads - quad, k0, k1, k2, k3);
    }
    weights[i] = score;
    highest = max(highest, score * params.scale);
  }
  var total = 0.0;
  for (var part = 0u; part < 8u; part += 1u) {
    var sum = 0.0;
    for (var i = part; i < 64u; i += 8u) {
      if (i >= seen.x && i < seen.y) {
        let weight = exp(weights[i] * params.scale - highest);
        weights[i] = weight;
        sum = sum + weight;
      }
    }
    total = total + sum;
  }
  partials[partial + quads] = vec4(highest, total, 0.0, 0.0);

  for (var firstQuad = 0u; firstQuad < quads; firstQuad += 4u) {
    // As many parts as a workgroup of 64 lanes would divide the positions into.
    let width = min(quads - firstQuad / 64u * 64u, 64u);
    let partCount = 64u / width;
    let positions = (63u + partCount) / partCount;
    let quad1 = min(firstQuad + 1u, quads - 1u);
    let quad2 = min(firstQuad + 2u, quads - 1u);
    let quad3 = min(firstQuad + 3u, quads - 1u);
    var total0 = vec4(0.0);
    var total1 = vec4(0.0);
    var total2 = vec4(0.0);
    var total3 = vec4(0.0);
    for (var part = 0u; part < partCount; part += 1u) {
      var part0 = vec4(0.0);
      var part1 = vec4(0.0);
      var part2 = vec4(0.0);
      var part3 = vec4(0.0);
      let end = min((part + 1u) * positions, seen.y);
      for (var i = max(part * positions, seen.x); i < end; i += 1u) {
        let at = (page * 64u + i) * quads;
        let weight = weights[i];
        part0 = add_value(part0, weight, unpack_halves(values[at + firstQuad]));
        part1 = add_value(part1, weight, unpack_halves(values[at + quad1]));
        part2 = add_value(part2, weight, unpack_halves(values[at + quad2]));
        part3 = add_value(part3, weight, unpack_halves(values[at + quad3]));
      }
      total0 = total0 + part0;
      total1 = total1 + part1;
      total2 = total2 + part2;
      total3 = total3 + part3;
    }
    partials[partial + firstQuad] = total0;
    partials[partial + quad1] = total1;
    partials[partial + quad2] = total2;
    partials[partial + quad3] = total3;
  }
}
