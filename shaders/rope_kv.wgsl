// rope_kv.wgsl: rotate queries and keys by their position (Su et al. 2021; pairs (i, i + headDim / 2) as Llama's
//   checkpoints have them), write keys and values into the cache.
// In:  rows Rows; qkv (T, (H + 2K) · headDim) f32; rotation (positions, headDim / 2) of (cos, sin) f32;
//      blockTable (slots, blocks) u32
// Out: query (T, H, headDim) f32; keys (pages, K, headDim / 4, 64) of vec4 f32; values (pages, K, 64, headDim) f32
// Dispatch: (ceil(items / 64), T) workgroups of 64; an item is a pair to rotate or a value to copy.
//   Overrides: none. Needs: nothing optional.
// Numerics: angles are tabulated in float64 on the host; WGSL's cos and sin promise too little.
// Twin: test/reference/rope_kv.ts
struct Params {
  headCount: u32,
  kvHeadCount: u32,
  headDim: u32,
  blocksPerSlot: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rows: Rows;
@group(0) @binding(2) var<storage, read> qkv: array<f32>;
@group(0) @binding(3) var<storage, read> rotation: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read> blockTable: array<u32>;
@group(0) @binding(5) var<storage, read_write> query: array<f32>;
@group(0) @binding(6) var<storage, read_write> keys: array<f32>;
@group(0) @binding(7) var<storage, read_write> values: array<f32>;

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
    let dim = id.x % half;
    let a = qkv[base + head * dims + dim];
    let b = qkv[base + head * dims + dim + half];
    let turn = rotation[row.position * half + dim];
    let x = a * turn.x - b * turn.y;
    let y = b * turn.x + a * turn.y;
    if (head < params.headCount) {
      let q = (t * params.headCount + head) * dims + dim;
      query[q] = x;
      query[q + half] = y;
    } else {
      let kvHead = head - params.headCount;
      keys[key_index(page, kvHead, dim, offset)] = x;
      keys[key_index(page, kvHead, dim + half, offset)] = y;
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
