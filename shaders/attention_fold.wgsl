// attention_fold.wgsl: fold the blocks of attention.wgsl left to right and normalise.
// In:  rows Rows; partials (T, H, blocks, headDim / 4 + 1) of vec4 f32
// Out: output (T, H · headDim) f32
// Dispatch: (ceil(H · headDim / 4 / 64), T) workgroups of 64, a lane per vector. Overrides: HEAD_DIM. Needs: nothing optional.
// Numerics: of lib/fold.wgsl.
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
  var highest = FOLD_START;
  var sum = 0.0;
  var total = vec4(0.0);
  for (var block = firstBlock; block < blocks; block += 1u) {
    let base = partial + block * stride;
    let part = partials[base + quads];
    sum = fold_sum(sum, highest, part.y, part.x);
    total = fold_values(total, highest, partials[base + quad], part.x);
    highest = max(highest, part.x);
  }
  output[(t * params.headCount + head) * quads + quad] = total / sum;
}
