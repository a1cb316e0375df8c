import embedCode from '../../shaders/embed.wgsl?raw';
import packedCode from '../../shaders/lib/packed.wgsl?raw';
import rowsCode from '../../shaders/lib/rows.wgsl?raw';
import unpackCode from '../../shaders/lib/unpack.wgsl?raw';
import { createParams } from '../gpu/buffers.ts';
import type { Gpu } from '../gpu/device.ts';
import { createBindGroup, createPipeline, type Kernel, type Step } from '../gpu/kernel.ts';
import { formatCodes, type PackedMatrix, workgroupSize } from './packed.ts';

export const embed: Kernel = {
  name: 'embed',
  code: rowsCode + packedCode + unpackCode + embedCode,
  bindings: [
    { name: 'params', kind: 'uniform' },
    { name: 'rows', kind: 'read' },
    { name: 'weight', kind: 'read' },
    { name: 'scales', kind: 'read' },
    { name: 'output', kind: 'write' },
  ],
  overrides: ['FORMAT'],
  params: [
    { name: 'hiddenSize', type: 'u32' },
    { name: 'vocabSize', type: 'u32' },
    { name: 'segments', type: 'u32' },
    { name: 'segmentWords', type: 'u32' },
    { name: 'scale', type: 'f32' },
    { name: 'firstToken', type: 'u32' },
    { name: 'tokenCount', type: 'u32' },
    { name: 'rowVectors', type: 'u32' },
  ],
};

/**
 * output (T, D) = scale · embedding (V, D)[row.token], for the tokens from `firstToken` on that `weight` has rows of.
 * `rowSize`: floats from one row of the output to the next.
 */
export async function embedStep(
  gpu: Gpu,
  { rows, weight, output }: { rows: GPUBuffer; weight: PackedMatrix; output: GPUBuffer },
  { scale, firstToken, vocabSize, rowSize }: { scale: number; firstToken: number; vocabSize: number; rowSize: number },
): Promise<Step> {
  const pipeline = await createPipeline(gpu, embed, { FORMAT: formatCodes[weight.format] });
  const { inputSize, outputSize, segments, segmentWords } = weight;
  const fields = [inputSize, vocabSize, segments, segmentWords, { f32: scale }, firstToken, outputSize, rowSize / 4];
  const params = createParams(gpu, 'embed params', fields);
  const groups = Math.ceil((segments * segmentWords) / workgroupSize);
  return {
    label: 'embed',
    bindGroup: createBindGroup(gpu, embed, { params, rows, weight: weight.buffer, scales: weight.scales, output }),
    pipeline: () => pipeline,
    grid: (shape) => [groups, shape.rows, 1],
  };
}
