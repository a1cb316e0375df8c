// attention_fold.wgsl: fold the blocks of attention.wgsl left to right and normalise.
// In:  rows Rows; partials (T, H, blocks, headDim / 4 + 1) of vec4 f32
// Out: output (T, H · headDim) f32
// Dispatch: (ceil(H · headDim / 4 / 64), T) workgroups of 64, a lane per vector. Overrides: HEAD_DIM. Needs: nothing optional.
// Numerics: running maximum and rescaling as in Milakov & Gimelshein 2018.
// Twin: test/reference/attention.ts
override HEAD_DIM: u32;

struct Params {
  headCount: u32,
  blocksPerSlot: u32,
  window: u32,  // as in attention.wgsl
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rows: Rows;
@group(0) @binding(2) var<storage, read> partials: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> output: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  let quads = HEAD_DIM / 4u;
  let head = id.x / quads;
  let quad = id.x % quads;
  let t = id.y;
  if (t >= rows.rowCount || head >= params.headCount) {
    return;
  }
  let position = rows.row[t].position;
  let blocks = position / 64u + 1u;
  let firstBlock = first_seen(position, params.window) / 64u;
  let stride = quads + 1u;
  let partial = (t * params.headCount + head) * params.blocksPerSlot * stride;
  let first = partial + firstBlock * stride;
  var highest = partials[first + quads].x;
  var sum = partials[first + quads].y;
  var total = partials[first + quad];
  for (var block = firstBlock + 1u; block < blocks; block += 1u) {
    let base = partial + block * stride;
    let other = partials[base + quads];
    let next = max(highest, other.x);
    let keep = exp(highest - next);
    let add = exp(other.x - next);
    sum = sum * keep + other.y * add;
    total = total * keep + partials[base + quad] * add;
    highest = next;
  }
  output[(t * params.headCount + head) * quads + quad] = total / sum;
}
