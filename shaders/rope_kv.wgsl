// rope_kv.wgsl: normalise queries and keys where the model does (Henry et al. 2020), rotate them by their position (Su et
//   al. 2021; pairs (i, i + rotaryDim / 2) as Hugging Face checkpoints have them), write keys and values into the cache.
// In:  rows Rows; qkv (T, (H + 2K) · headDim) f32; rotation (positions, rotaryDim / 2) of (cos, sin) f32;
//      blockTable (slots, blocks) u32; headNorm f32: norm weights of queries, then of keys
// Out: query (T, H, headDim) f32; keys (pages, K, headDim / 4, 64) of vec4 f32; values (pages, K, 64, headDim) f32
// Dispatch: (ceil(items / 64), T) workgroups of 64; an item is a pair of dimensions or a value to copy.
//   Overrides: QK_NORM (0: none, 1: each head by itself, 2: all heads together). Needs: nothing optional.
// Numerics: angles are tabulated in float64 on the host; WGSL's cos and sin promise too little. Each lane sums the squares
//   it needs itself, in ascending order: more loads, all of them shared by its neighbours, and no barrier.
// Twin: test/reference/rope_kv.ts
override QK_NORM: u32;

struct Params {
  headCount: u32,
  kvHeadCount: u32,
  headDim: u32,
  rotaryDim: u32,
  blocksPerSlot: u32,
  epsilon: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rows: Rows;
@group(0) @binding(2) var<storage, read> qkv: array<f32>;
@group(0) @binding(3) var<storage, read> rotation: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read> blockTable: array<u32>;
@group(0) @binding(5) var<storage, read> headNorm: array<f32>;
@group(0) @binding(6) var<storage, read_write> query: array<f32>;
@group(0) @binding(7) var<storage, read_write> keys: array<f32>;
@group(0) @binding(8) var<storage, read_write> values: array<f32>;

// 1 / root mean square of the `count` values from `first` on.
fn inverse_rms(first: u32, count: u32) -> f32 {
  var sum = 0.0;
  for (var i = 0u; i < count; i += 1u) {
    let x = qkv[first + i];
    sum = sum + x * x;
  }
  return inverseSqrt(sum / f32(count) + params.epsilon);
}

// The two values of an item, normalised. `base`: where the row begins in qkv.
fn normalised(base: u32, head: u32, dimA: u32, dimB: u32) -> vec2<f32> {
  let dims = params.headDim;
  let pair = vec2(qkv[base + head * dims + dimA], qkv[base + head * dims + dimB]);
  if (QK_NORM == 0u) {
    return pair;
  }
  let isKey = head >= params.headCount;
  if (QK_NORM == 1u) {
    let weights = select(0u, dims, isKey);
    let scale = inverse_rms(base + head * dims, dims);
    return pair * scale * vec2(headNorm[weights + dimA], headNorm[weights + dimB]);
  }
  // The weights of all queries, then those of all keys: an index that runs on over the heads.
  let first = select(0u, params.headCount, isKey);
  let heads = select(params.headCount, params.kvHeadCount, isKey);
  let scale = inverse_rms(base + first * dims, heads * dims);
  return pair * scale * vec2(headNorm[head * dims + dimA], headNorm[head * dims + dimB]);
}

fn key_index(page: u32, head: u32, dim: u32, offset: u32) -> u32 {
  // Transposed within a page: the 64 lanes of attention.wgsl read one vector each of 64 neighbouring positions.
  return (((page * params.kvHeadCount + head) * (params.headDim / 4u) + dim / 4u) * 64u + offset) * 4u + dim % 4u;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let t = id.y;
  if (t >= rows.rowCount) {
    return;
  }
  let row = rows.row[t];
  let page = blockTable[row.slot * params.blocksPerSlot + row.position / 64u];
  let offset = row.position % 64u;
  let dims = params.headDim;
  let half = dims / 2u;
  let base = t * (params.headCount + 2u * params.kvHeadCount) * dims;
  let pairs = (params.headCount + params.kvHeadCount) * half;
  if (id.x < pairs) {
    let head = id.x / half;
    let item = id.x % half;
    let turning = params.rotaryDim / 2u;
    // The first items turn a pair of the rotary dimensions, the others pass two of the rest.
    let isTurning = item < turning;
    let rest = params.rotaryDim + 2u * (item - turning);
    let dimA = select(rest, item, isTurning);
    let dimB = select(rest + 1u, item + turning, isTurning);
    let pair = normalised(base, head, dimA, dimB);
    var x = pair.x;
    var y = pair.y;
    if (isTurning) {
      let turn = rotation[row.position * turning + item];
      x = pair.x * turn.x - pair.y * turn.y;
      y = pair.y * turn.x + pair.x * turn.y;
    }
    if (head < params.headCount) {
      let q = (t * params.headCount + head) * dims;
      query[q + dimA] = x;
      query[q + dimB] = y;
    } else {
      let kvHead = head - params.headCount;
      keys[key_index(page, kvHead, dimA, offset)] = x;
      keys[key_index(page, kvHead, dimB, offset)] = y;
    }
    return;
  }
  let item = id.x - pairs;
  if (item < params.kvHeadCount * dims) {
    let kvHead = item / dims;
    values[((page * params.kvHeadCount + kvHead) * 64u + offset) * dims + item % dims] =
      qkv[base + (params.headCount + params.kvHeadCount) * dims + item];
  }
}
