// attention_fold.wgsl: fold the blocks of attention.wgsl left to right and normalise.
// In:  rows Rows; partials (T, H, blocks, headDim + 2) f32
// Out: output (T, H · headDim) f32
// Dispatch: (H, T) workgroups of 64. Overrides: HEAD_DIM. Needs: nothing optional.
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
@group(0) @binding(2) var<storage, read> partials: array<f32>;
@group(0) @binding(3) var<storage, read_write> output: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let head = group.x;
  let t = group.y;
  if (t >= rows.rowCount) {
    return;
  }
  let position = rows.row[t].position;
  let blocks = position / 64u + 1u;
  let firstBlock = first_seen(position, params.window) / 64u;
  let partial = (t * params.headCount + head) * params.blocksPerSlot * (HEAD_DIM + 2u);
  let first = partial + firstBlock * (HEAD_DIM + 2u);
  for (var dim = lane; dim < HEAD_DIM; dim += 64u) {
    var highest = partials[first + HEAD_DIM];
    var sum = partials[first + HEAD_DIM + 1u];
    var total = partials[first + dim];
    for (var block = firstBlock + 1u; block < blocks; block += 1u) {
      let base = partial + block * (HEAD_DIM + 2u);
      let next = max(highest, partials[base + HEAD_DIM]);
      let keep = exp(highest - next);
      let add = exp(partials[base + HEAD_DIM] - next);
      sum = sum * keep + partials[base + HEAD_DIM + 1u] * add;
      total = total * keep + partials[base + dim] * add;
      highest = next;
    }
    output[(t * params.headCount + head) * HEAD_DIM + dim] = total / sum;
  }
}
