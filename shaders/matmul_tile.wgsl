// matmul_tile.wgsl: y = x · Wᵀ (+ bias) (+ y) for many rows (prefill): a tile of 32 rows × 32 outputs per workgroup.
// In:  rows Rows; weight (N, K) packed, and its scales (lib/packed.wgsl); bias (N,) f32; input (T, K) f32
// Out: output (T, N) f32
// Dispatch: (ceil(N / 32), ceil(T / 32)) workgroups of 64, a lane per 4 rows × 4 outputs. Overrides: FORMAT
//   (0: f16, 1: q8, 2: q4). Needs: nothing optional.
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
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> rows: Rows;
@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> scales: array<u32>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<storage, read> input: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> output: array<f32>;

const TILE = 32u;
const STEP_VECTORS = 8u;  // vectors per output and step: 32 k
var<workgroup> weightTile: array<f32, 1024>;  // (32 k, 32 outputs)
var<workgroup> inputTile: array<f32, 1024>;   // (32 k, 32 rows)

// Weight words [firstWord, firstWord + words) of the tile's outputs, and the matching inputs of its rows.
fn load_tiles(lane: u32, firstRow: u32, firstOutput: u32, firstWord: u32, words: u32) {
  for (var i = lane; i < TILE * words; i += 64u) {
    let n = i % TILE;
    let word = i / TILE;
    var packed = vec4(0u);
    var scale = 0.0;
    if (firstOutput + n < params.outputSize) {
      let index = packed_word(firstOutput + n, firstWord + word, params.segments, params.segmentWords);
      packed = weight[index];
      scale = word_scale(index);
    }
    for (var v = 0u; v < word_vectors(); v += 1u) {
      let w = weight_vector(packed, scale, v);
      let k = (word * word_vectors() + v) * 4u;
      weightTile[(k + 0u) * TILE + n] = w.x;
      weightTile[(k + 1u) * TILE + n] = w.y;
      weightTile[(k + 2u) * TILE + n] = w.z;
      weightTile[(k + 3u) * TILE + n] = w.w;
    }
  }
  let vectors = words * word_vectors();
  for (var i = lane; i < TILE * vectors; i += 64u) {
    let t = i / vectors;
    let vector = i % vectors;
    var x = vec4(0.0);
    if (firstRow + t < rows.rowCount) {
      x = input[(firstRow + t) * params.inputVectors + min(firstWord * word_vectors() + vector, params.inputVectors - 1u)];
    }
    inputTile[(vector * 4u + 0u) * TILE + t] = x.x;
    inputTile[(vector * 4u + 1u) * TILE + t] = x.y;
    inputTile[(vector * 4u + 2u) * TILE + t] = x.z;
    inputTile[(vector * 4u + 3u) * TILE + t] = x.w;
  }
}

fn store(t: u32, n: u32, value: f32) {
  if (t >= rows.rowCount || n >= params.outputSize) {
    return;
  }
  var total = value;
  if (params.hasBias == 1u) { total = total + bias[n]; }
  if (params.addOutput == 1u) { total = output[t * params.outputSize + n] + total; }
  output[t * params.outputSize + n] = total;
}

fn store4(t: u32, n: u32, values: vec4<f32>) {
  store(t, n, values.x);
  store(t, n + 1u, values.y);
  store(t, n + 2u, values.z);
  store(t, n + 3u, values.w);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let firstRow = group.y * TILE;
  let firstOutput = group.x * TILE;
  if (firstRow >= rows.rowCount) {
    return;
  }
  let outputs = (lane % 8u) * 4u;
  let tileRows = (lane / 8u) * 4u;
  // A vector per row, over four outputs.
  var total0 = vec4(0.0);
  var total1 = vec4(0.0);
  var total2 = vec4(0.0);
  var total3 = vec4(0.0);
  for (var segment = 0u; segment < params.segments; segment += 1u) {
    var sum0 = vec4(0.0);
    var sum1 = vec4(0.0);
    var sum2 = vec4(0.0);
    var sum3 = vec4(0.0);
    let stepWords = STEP_VECTORS / word_vectors();
    for (var step = 0u; step < params.segmentWords; step += stepWords) {
      let words = min(stepWords, params.segmentWords - step);
      load_tiles(lane, firstRow, firstOutput, segment * params.segmentWords + step, words);
      workgroupBarrier();
      for (var k = 0u; k < words * word_vectors() * 4u; k += 1u) {
        let w = k * TILE + outputs;
        let x = k * TILE + tileRows;
        let weights = vec4(weightTile[w], weightTile[w + 1u], weightTile[w + 2u], weightTile[w + 3u]);
        sum0 = sum0 + weights * inputTile[x];
        sum1 = sum1 + weights * inputTile[x + 1u];
        sum2 = sum2 + weights * inputTile[x + 2u];
        sum3 = sum3 + weights * inputTile[x + 3u];
      }
      workgroupBarrier();
    }
    total0 = total0 + sum0;
    total1 = total1 + sum1;
    total2 = total2 + sum2;
    total3 = total3 + sum3;
  }
  store4(firstRow + tileRows, firstOutput + outputs, total0);
  store4(firstRow + tileRows + 1u, firstOutput + outputs, total1);
  store4(firstRow + tileRows + 2u, firstOutput + outputs, total2);
  store4(firstRow + tileRows + 3u, firstOutput + outputs, total3);
}
