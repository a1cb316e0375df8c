// rope_kv.wgsl: normalise queries and keys where the model does (Henry et al. 2020), rotate them by their position (Su et
//   al. 2021; pairs (i, i + rotaryDim / 2) as Hugging Face checkpoints have them), write keys and values into the cache.
// In:  rows Rows; qkv (T, (H + 2K) · headDim) f32; rotation (positions, rotaryDim / 2) of (cos, sin) f32;
//      blockTable (slots, blocks) u32; headNorm f32: norm weights of queries, then of keys
// Out: query (T, H, headDim) f32; keys (pages, K, headDim / 4, 64) of four f16; values (pages, K, 64, headDim / 4) of four f16
// Dispatch: (ceil((H + 2K) · headDim / 4 / 64), T) workgroups of 64; an item is four dimensions of a head.
//   Overrides: QK_NORM (0: none, 1: each head by itself, 2: all heads together). Needs: nothing optional.
// Numerics: angles are tabulated in float64 on the host; WGSL's cos and sin promise too little. Each lane sums the squares
//   it needs itself, in ascending order: more loads, all of them shared by its neighbours, and no barrier. f16 as in
//   lib/half.wgsl; WGSL leaves its rounding to the device, which rounds a value alike in every pass.
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
@group(0) @binding(6) var<storage, read_write> query: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> keys: array<vec2<u32>>;
@group(0) @binding(8) var<storage, read_write> values: array<vec2<u32>>;

// 1 / root mean square of the `count` values from `first` on.
fn inverse_rms(first: u32, count: u32) -> f32 {
  var sum = 0.0;
  for (var i = 0u; i < count; i += 1u) {
    let x = qkv[first + i];
    sum = sum + x * x;
  }
  return inverseSqrt(sum / f32(count) + params.epsilon);
}

// What the norm multiplies a head with. `base`: where the row begins in qkv.
fn norm_scale(base: u32, head: u32) -> f32 {
  if (QK_NORM == 0u) {
    return 1.0;
  }
  if (QK_NORM == 1u) {
    return inverse_rms(base + head * params.headDim, params.headDim);
  }
  let isKey = head >= params.headCount;
  let first = select(0u, params.headCount, isKey);
  let heads = select(params.headCount, params.kvHeadCount, isKey);
  return inverse_rms(base + first * params.headDim, heads * params.headDim);
}

fn normalised(base: u32, head: u32, dim: u32, scale: f32) -> f32 {
  let x = qkv[base + head * params.headDim + dim];
  if (QK_NORM == 0u) {
    return x;
  }
  // Over all heads, the weights of all queries, then those of all keys: an index that runs on over the heads.
  let weightHead = select(head, u32(head >= params.headCount), QK_NORM == 1u);
  return x * scale * headNorm[weightHead * params.headDim + dim];
}

// A dimension of a query or a key after norm and rotation.
fn turned(base: u32, head: u32, dim: u32, scale: f32, position: u32) -> f32 {
  let x = normalised(base, head, dim, scale);
  if (dim >= params.rotaryDim) {
    return x;
  }
  let turning = params.rotaryDim / 2u;
  let isSecond = dim >= turning;
  let other = normalised(base, head, select(dim + turning, dim - turning, isSecond), scale);
  let turn = rotation[position * turning + select(dim, dim - turning, isSecond)];
  return x * turn.x + select(-other, other, isSecond) * turn.y;
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let t = id.y;
  let quads = params.headDim / 4u;
  let head = id.x / quads;
  let quad = id.x % quads;
  let heads = params.headCount + 2u * params.kvHeadCount;
  if (t >= rows.rowCount || head >= heads) {
    return;
  }
  let row = rows.row[t];
  let base = t * heads * params.headDim;
  let isValue = head >= params.headCount + params.kvHeadCount;
  var item = vec4(0.0);
  if (isValue) {
    for (var i = 0u; i < 4u; i += 1u) {
      item[i] = qkv[base + head * params.headDim + quad * 4u + i];
    }
  } else {
    let scale = norm_scale(base, head);
    for (var i = 0u; i < 4u; i += 1u) {
      item[i] = turned(base, head, quad * 4u + i, scale, row.position);
    }
  }
  if (head < params.headCount) {
    query[(t * params.headCount + head) * quads + quad] = item;
    return;
  }
  let page = blockTable[row.slot * params.blocksPerSlot + row.position / 64u] * params.kvHeadCount;
  let offset = row.position % 64u;
  if (isValue) {
    let kvHead = head - params.headCount - params.kvHeadCount;
    values[((page + kvHead) * 64u + offset) * quads + quad] = pack_halves(item);
  } else {
    // Transposed within a page: the 64 lanes of attention.wgsl read one item each of 64 neighbouring positions.
    let kvHead = head - params.headCount;
    keys[((page + kvHead) * quads + quad) * 64u + offset] = pack_halves(item);
  }
}
