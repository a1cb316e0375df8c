// matmul_lane.wgsl: the products of matmul_rows.wgsl, four outputs to a lane that shares nothing with others: no barrier, no
//   workgroup memory. For devices whose lanes are a CPU's, where a barrier costs more than a row; on a GPU neighbouring lanes
//   would load words that lie apart.
// In:  rows Rows; weight (N, K) packed, and its scales (lib/packed.wgsl); bias f32, of all parts; input (M, K) f32;
//      nextNorm: not read, bound as in matmul_rows.wgsl
// Out: output (M, N) f32; with an activation (M, N / 2), of the products of rows n (gate) and N / 2 + n (up) of the weight
// Dispatch: ceil(N / 4 / 16) workgroups of 16, folded into 2-D, and ceil(M / ROWS) in z; a lane for four neighbouring outputs, or
//   two of gate and the same of up. Overrides: FORMAT (0: f16, 1: q8, 2: q4), ROWS (most of M in one workgroup: 1, 2, 4).
//   Needs: nothing optional.
// Numerics: each segment of K in ascending k, segments folded left to right: the order of matmul_rows.wgsl.
// Twin: test/reference/matmul.ts
override FORMAT: u32;
override ROWS: u32;

struct Params {
  outputSize: u32,    // N
  inputVectors: u32,  // K / 4
  segments: u32,
  segmentWords: u32,
  hasBias: u32,
  addOutput: u32,     // 1: residual, adds to what is there
  activation: u32,    // lib/activate.wgsl; ACTIVATION_NONE: a product for every row of the weight
  outputRows: u32,    // 1: of the input only the rows that get logits, to the first rows of the output
  outputStride: u32,  // from one row of the output to the next
  firstOutput: u32,   // where in a row of the output this weight's products begin
  inputStride: u32,   // vectors from one row of the input to the next
  firstInput: u32,    // vector of an input row where its K values begin
  squareGroup: u32,   // 0: the input is not of a norm
  epsilon: f32,       // not read, as streamSize: norm_input.wgsl prepares what lanes read
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

const LANES = 16u;   // few: what a device shares out among its cores are workgroups
const OUTPUTS = 4u;  // of a lane

// 1 / root mean square of a row of the input where that is of a norm (lib/stream.wgsl).
fn input_scale(t: u32) -> f32 {
  if (params.squareGroup == 0u) {
    return 1.0;
  }
  return input[t * params.inputStride + params.firstInput + params.inputVectors].x;
}

// The outputs of a lane for row m, which is row t of the input.
fn finish(m: u32, t: u32, n: u32, sums: vec4<f32>) {
  let total = sums * input_scale(t);
  if (params.activation != ACTIVATION_NONE) {
    store_gated(m, n, total.x, total.z);
    store_gated(m, n + 1u, total.y, total.w);
    return;
  }
  store(m, n, total.x);
  store(m, n + 1u, total.y);
  store(m, n + 2u, total.z);
  store(m, n + 3u, total.w);
}

// A piece of four weight rows times input row t from vector k4 on, onto the running sums of their outputs.
fn accumulate(sum: vec4<f32>, t: u32, k4: u32, a: Piece, b: Piece, c: Piece, d: Piece) -> vec4<f32> {
  let row = t * params.inputStride + params.firstInput;
  // The padding behind K holds zero weights, so any input of the row may stand there.
  let x = input[row + min(k4, params.inputVectors - 1u)];
  let y = input[row + min(k4 + 1u, params.inputVectors - 1u)];
  var acc = sum;
  acc = acc + vec4(a.low.x, b.low.x, c.low.x, d.low.x) * x.x;
  acc = acc + vec4(a.low.y, b.low.y, c.low.y, d.low.y) * x.y;
  acc = acc + vec4(a.low.z, b.low.z, c.low.z, d.low.z) * x.z;
  acc = acc + vec4(a.low.w, b.low.w, c.low.w, d.low.w) * x.w;
  acc = acc + vec4(a.high.x, b.high.x, c.high.x, d.high.x) * y.x;
  acc = acc + vec4(a.high.y, b.high.y, c.high.y, d.high.y) * y.y;
  acc = acc + vec4(a.high.z, b.high.z, c.high.z, d.high.z) * y.z;
  acc = acc + vec4(a.high.w, b.high.w, c.high.w, d.high.w) * y.w;
  return acc;
}

@compute @workgroup_size(16)
fn main(
  @builtin(workgroup_id) id: vec3<u32>,
  @builtin(num_workgroups) counts: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let isGated = params.activation != ACTIVATION_NONE;
  let half = params.outputSize / 2u;
  let n = ((id.x + id.y * counts.x) * LANES + lane) * select(OUTPUTS, OUTPUTS / 2u, isGated);
  let n2 = select(n + 2u, n + half, isGated);
  let firstRow = id.z * ROWS;
  let firstInputRow = firstRow + select(0u, rows.firstOutputRow, params.outputRows == 1u);
  if (firstInputRow >= rows.rowCount || n >= select(params.outputSize, half, isGated)) {
    return;
  }
  // Rows that this pass has not, or that a lookup left empty, cost a branch.
  let rowCount = rows.rowCount - firstInputRow;
  let stride = packed_stride(params.segments);
  let last = params.outputSize - 1u;  // repeated by lanes that have fewer outputs
  let rowA = packed_row(n, params.segments, params.segmentWords);
  let rowB = packed_row(min(n + 1u, last), params.segments, params.segmentWords);
  let rowC = packed_row(min(n2, last), params.segments, params.segmentWords);
  let rowD = packed_row(min(n2 + 1u, last), params.segments, params.segmentWords);
  // Named sums: an indexed local array would spill to memory.
  var total0 = vec4(0.0);
  var total1 = vec4(0.0);
  var total2 = vec4(0.0);
  var total3 = vec4(0.0);
  for (var segment = 0u; segment < params.segments; segment += 1u) {
    var indexA = rowA + segment;
    var indexB = rowB + segment;
    var indexC = rowC + segment;
    var indexD = rowD + segment;
    var sum0 = vec4(0.0);
    var sum1 = vec4(0.0);
    var sum2 = vec4(0.0);
    var sum3 = vec4(0.0);
    for (var step = 0u; step < params.segmentWords; step += 1u) {
      var packedA = weight[indexA];
      var packedB = weight[indexB];
      var packedC = weight[indexC];
      var packedD = weight[indexD];
      var scaleA = word_scales(indexA);
      var scaleB = word_scales(indexB);
      var scaleC = word_scales(indexC);
      var scaleD = word_scales(indexD);
      for (var j = 0u; j < word_pieces(); j += 1u) {
        let a = first_piece(packedA, scaleA.x);
        let b = first_piece(packedB, scaleB.x);
        let c = first_piece(packedC, scaleC.x);
        let d = first_piece(packedD, scaleD.x);
        let k4 = piece_vector(step * word_pieces() + j, segment, params.segments);
        sum0 = accumulate(sum0, firstInputRow, k4, a, b, c, d);
        if (ROWS > 1u && rowCount > 1u) { sum1 = accumulate(sum1, firstInputRow + 1u, k4, a, b, c, d); }
        if (ROWS > 2u && rowCount > 2u) { sum2 = accumulate(sum2, firstInputRow + 2u, k4, a, b, c, d); }
        if (ROWS > 3u && rowCount > 3u) { sum3 = accumulate(sum3, firstInputRow + 3u, k4, a, b, c, d); }
        packedA = next_piece(packedA);
        packedB = next_piece(packedB);
        packedC = next_piece(packedC);
        packedD = next_piece(packedD);
        scaleA = scaleA.yzwx;
        scaleB = scaleB.yzwx;
        scaleC = scaleC.yzwx;
        scaleD = scaleD.yzwx;
      }
      indexA += stride;
      indexB += stride;
      indexC += stride;
      indexD += stride;
    }
    total0 = total0 + sum0;
    total1 = total1 + sum1;
    total2 = total2 + sum2;
    total3 = total3 + sum3;
  }
  finish(firstRow, firstInputRow, n, total0);
  if (ROWS > 1u && rowCount > 1u) { finish(firstRow + 1u, firstInputRow + 1u, n, total1); }
  if (ROWS > 2u && rowCount > 2u) { finish(firstRow + 2u, firstInputRow + 2u, n, total2); }
  if (ROWS > 3u && rowCount > 3u) { finish(firstRow + 3u, firstInputRow + 3u, n, total3); }
}
