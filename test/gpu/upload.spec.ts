/** Weights on their way to the GPU: every slice in its place, and nothing left behind. */
import { expect, it } from 'vitest';
import { openModel, readWeights } from '../../src/model/load.ts';
import { uploadWeights, weightFormats } from '../../src/model/weights.ts';
import { readPacked } from '../reference/pack.ts';
import { syntheticModel } from '../reference/synthetic_model.ts';
import { device, readFloats, readUints } from './kernel_bench.ts';

it('matrices of several slices, stacked in the order of the file; the buffers that rows passed through are freed', async () => {
  const [hiddenSize, ffnSize] = [512, 5000];
  const model = syntheticModel({ hiddenSize, ffnSize, layerCount: 1, vocabSize: 20_000 });
  const opened = await openModel(model.source, 'target');
  const gpu = device();
  const { bytes: bytesBefore, buffers } = gpu;
  const countBefore = buffers.size;
  const weights = await uploadWeights(
    gpu,
    'target',
    opened,
    readWeights(opened, 'target'),
    weightFormats(opened, 'f16'),
  );
  expect(gpu.bytes - bytesBefore).toBe(weights.sizeBytes + 16); // one buffer stands for all missing scales
  // Embedding, 4 matrices and 3 norms.
  expect(buffers.size - countBefore).toBe(9);

  const layer = weights.layers[0]!;
  const cases = [
    [weights.embedding[0]!.matrix, 'model.embed_tokens.weight', 0, 20_000],
    [layer.qkv.weight[0]!.matrix, 'model.layers.0.self_attn.k_proj.weight', 512, 256],
    [layer.qkv.weight[0]!.matrix, 'model.layers.0.self_attn.v_proj.weight', 768, 256],
    [layer.gateUp.weight[0]!.matrix, 'model.layers.0.mlp.gate_proj.weight', 0, ffnSize],
    [layer.gateUp.weight[0]!.matrix, 'model.layers.0.mlp.up_proj.weight', ffnSize, ffnSize],
    [layer.down.weight[0]!.matrix, 'model.layers.0.mlp.down_proj.weight', 0, hiddenSize],
  ] as const;
  for (const [matrix, name, firstRow, rowCount] of cases) {
    const words = await readUints(matrix.buffer);
    for (let row = 0; row < rowCount; row += 97) {
      for (const k of [0, 1, matrix.inputSize - 1]) {
        const got = readPacked(matrix, words, words, firstRow + row, k);
        expect([name, row, k, got]).toEqual([name, row, k, model.valueAt(name, row * matrix.inputSize + k)]);
      }
    }
  }
  const norm = await readFloats(weights.finalNorm);
  norm.forEach((value, i) => {
    expect(value).toBe(model.valueAt('model.norm.weight', i));
  });
});

it('what fails half-way leaves none of the buffers that rows pass through', async () => {
  const model = syntheticModel({ hiddenSize: 512, ffnSize: 512, layerCount: 1, vocabSize: 400 });
  const opened = await openModel(model.source, 'target');
  const gpu = device();
  async function* broken() {
    let left = 3;
    for await (const rows of readWeights(opened, 'target')) {
      if (left === 0) throw new Error('the connection broke');
      left -= 1;
      yield rows;
    }
  }
  await expect(uploadWeights(gpu, 'target', opened, broken(), weightFormats(opened, 'f16'))).rejects.toThrow(
    'connection broke',
  );
  expect([...gpu.buffers].filter(({ label }) => label.startsWith('pack '))).toEqual([]);
});
