// matmul_tile.wgsl: y = x · Wᵀ (+ bias) (+ y), or activation(gate) · up of two such products, for many rows (prefill): a
//   tile of 32 rows × 32 rows of the weight per workgroup. x may be a normalised row of the residual stream.
// In:  rows Rows; weight (N, K) packed, and its scales (lib/packed.wgsl); bias f32, of all parts; input (T, K) f32;
//      nextNorm: not read, bound as in matmul_rows.wgsl
// Out: output (T, N) f32; with an activation (T, N / 2), of the products of rows n (gate) and N / 2 + n (up) of the weight
// Dispatch: (ceil(T / 32), ceil(N / 32)) workgroups of 64, a lane per 4 rows × 4 products, two of them of gates where there
//   is an activation. Neighbouring workgroups share their weights: caches hold a tile's, but not a matrix.
//   Overrides: FORMAT (0: f16, 1: q8, 2: q4). Needs: nothing optional.
// Numerics: each segment of K in ascending k, segments folded left to right: the order of matmul_rows.wgsl.
// Twin: test/reference/matmul.ts
override FORMAT: u32;

struct Params {
  outputSize: u32,    // N
  inputVectors: u32,  // K / 4
  segments: u32,
  segmentWords: u32,
  hasBias: u32,
  addOutput: u32,     // 1: residual, adds to what is there
  activation: u32,    // lib/activate.wgsl; ACTIVATION_NONE: a product for every row of the weight
  outputRows: u32,    // not read: only matmul_rows.wgsl makes logits
  outputStride: u32,  // from one row of the output to the next
  firstOutput: u32,   // where in a row of the output this weight's products begin
  inputStride: u32,   // vectors from one row of the input to the next
  firstInput: u32,    // vector of an input row where its K values begin
  squareGroup: u32,   // 0: the input is not of a norm
  epsilon: f32,       // not read, as streamSize: norm_input.wgsl prepares what tiles read
  streamSize: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rows: Rows;
@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<storage, read> input: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read> nextNorm: array<f32>;
@group(0) @binding(7) var<storage, read_write> output: array<f32>;

const TILE = 32u;
const STEP_PIECES = 4u;  // pieces per output and step: 32 k
// Vectors of four neighbouring k, which is what a word unpacks to and what an input is loaded as. A row of the inputs is one
// longer than it need be: lanes that write neighbouring vectors of one row would meet in one bank.
const INPUT_PITCH = TILE + 1u;
var<workgroup> weightTile: array<vec4<f32>, 256>;  // (8 vectors, 32 columns)
var<workgroup> inputTile: array<vec4<f32>, 264>;   // (8 vectors, 33), of 32 rows

// Row of the weight that a column of the tile multiplies with. With an activation 16 gates lie before their 16 ups.
fn weight_row(tileN: u32, column: u32) -> u32 {
  if (params.activation == ACTIVATION_NONE) {
    return tileN * TILE + column;
  }
  let n = tileN * (TILE / 2u) + column % (TILE / 2u);
  return select(n, n + params.outputSize / 2u, column >= TILE / 2u);
}

// Words [step, step + words) of a segment for the tile's columns, and the matching inputs of its rows.
fn load_tiles(lane: u32, firstRow: u32, tileN: u32, segment: u32, step: u32, words: u32) {
  for (var i = lane; i < TILE * words; i += 64u) {
    let column = i % TILE;
    let word = i / TILE;
    let n = weight_row(tileN, column);
    var packed = vec4(0u);
    var scale = vec4(0.0);
    if (n < params.outputSize) {
      let start = packed_row(n, params.segments, params.segmentWords);
      let index = start + (step + word) * packed_stride(params.segments) + segment;
      packed = weight[index];
      scale = word_scales(index);
    }
    for (var j = 0u; j < word_pieces(); j += 1u) {
      let vector = (word * word_pieces() + j) * 2u;
      let values = first_piece(packed, scale.x);
      weightTile[vector * TILE + column] = values.low;
      weightTile[(vector + 1u) * TILE + column] = values.high;
      packed = next_piece(packed);
      scale = scale.yzwx;
    }
  }
  let vectors = words * word_pieces() * 2u;
  for (var i = lane; i < TILE * vectors; i += 64u) {
    let t = i / vectors;
    let vector = i % vectors;
    let k4 = piece_vector(step * word_pieces() + vector / 2u, segment, params.segments) + vector % 2u;
    var x = vec4(0.0);
    if (firstRow + t < rows.rowCount) {
      x = input[(firstRow + t) * params.inputStride + params.firstInput + min(k4, params.inputVectors - 1u)];
    }
    inputTile[vector * INPUT_PITCH + t] = x;
  }
}

// Four k of a row's input times those of the lane's four columns, onto their sums, in ascending k.
fn accumulate(sums: vec4<f32>, x: vec4<f32>, w0: vec4<f32>, w1: vec4<f32>, w2: vec4<f32>, w3: vec4<f32>) -> vec4<f32> {
  var acc = sums;
  acc = acc + vec4(w0.x, w1.x, w2.x, w3.x) * x.x;
  acc = acc + vec4(w0.y, w1.y, w2.y, w3.y) * x.y;
  acc = acc + vec4(w0.z, w1.z, w2.z, w3.z) * x.z;
  acc = acc + vec4(w0.w, w1.w, w2.w, w3.w) * x.w;
  return acc;
}

// The lane's products of one row, eight columns apart. Loops, here and where it is called: stores written out compile slowly.
fn store4(t: u32, tileN: u32, column: u32, sums: vec4<f32>) {
  if (t >= rows.rowCount) {
    return;
  }
  var total = sums;
  if (params.squareGroup != 0u) {
    total = sums * input[t * params.inputStride + params.firstInput + params.inputVectors].x;
  }
  if (params.activation != ACTIVATION_NONE) {
    for (var i = 0u; i < 2u; i += 1u) {
      store_gated(t, weight_row(tileN, column + i * 8u), total[i], total[i + 2u]);
    }
    return;
  }
  for (var i = 0u; i < 4u; i += 1u) {
    store(t, weight_row(tileN, column + i * 8u), total[i]);
  }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let firstRow = group.x * TILE;
  if (firstRow >= rows.rowCount) {
    return;
  }
  // Of the tile's columns and rows every eighth is the lane's, so that neighbouring lanes read neighbouring vectors.
  let column = lane % 8u;
  let tileRow = lane / 8u;
  // A vector per row, over four columns.
  var total0 = vec4(0.0);
  var total1 = vec4(0.0);
  var total2 = vec4(0.0);
  var total3 = vec4(0.0);
  for (var segment = 0u; segment < params.segments; segment += 1u) {
    var sum0 = vec4(0.0);
    var sum1 = vec4(0.0);
    var sum2 = vec4(0.0);
    var sum3 = vec4(0.0);
    let stepWords = STEP_PIECES / word_pieces();
    for (var step = 0u; step < params.segmentWords; step += stepWords) {
      let words = min(stepWords, params.segmentWords - step);
      load_tiles(lane, firstRow, group.y, segment, step, words);
      workgroupBarrier();
      for (var vector = 0u; vector < words * word_pieces() * 2u; vector += 1u) {
        let w = vector * TILE + column;
        let x = vector * INPUT_PITCH + tileRow;
        let w0 = weightTile[w];
        let w1 = weightTile[w + 8u];
        let w2 = weightTile[w + 16u];
        let w3 = weightTile[w + 24u];
        sum0 = accumulate(sum0, inputTile[x], w0, w1, w2, w3);
        sum1 = accumulate(sum1, inputTile[x + 8u], w0, w1, w2, w3);
        sum2 = accumulate(sum2, inputTile[x + 16u], w0, w1, w2, w3);
        sum3 = accumulate(sum3, inputTile[x + 24u], w0, w1, w2, w3);
      }
      workgroupBarrier();
    }
    total0 = total0 + sum0;
    total1 = total1 + sum1;
    total2 = total2 + sum2;
    total3 = total3 + sum3;
  }
  for (var i = 0u; i < 4u; i += 1u) {
    let upper = select(total0, total1, i == 1u);
    let lower = select(total2, total3, i == 3u);
    store4(firstRow + tileRow + i * 8u, group.y, column, select(upper, lower, i >= 2u));
  }
}
