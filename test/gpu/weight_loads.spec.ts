/** How often each word of the weights is loaded, counted in the kernels: per token a prompt needs far fewer loads than decoding. */
import { describe, expect, it } from 'vitest';
import { createBindGroup, createPipeline, type Grid, type Kernel } from '../../src/gpu/kernel.ts';
import { type MatmulOptions, matmulParams, matmulRows } from '../../src/kernels/matmul_rows.ts';
import { matmulTile } from '../../src/kernels/matmul_tile.ts';
import { formatCodes, type PackedMatrix, rowsPerGroup, type WeightFormat } from '../../src/kernels/packed.ts';
import { createRandom } from '../reference/random.ts';
import { device, empty, packed, readUints, rowsOf, run } from './kernel_bench.ts';

/** The kernel with a count for every word of the weight beside each load of it. */
function counting(kernel: Kernel): Kernel {
  const code = kernel.code.replace(/\bweight\[(.*?)\]/g, 'counted_weight($1)');
  // No load may go by another way, as through a pointer: it would not be counted.
  expect(code.replace(/\/\/.*/g, '').match(/\bweight\b/g)).toEqual(['weight']);
  return {
    ...kernel,
    // A name of its own: specs share what is compiled.
    name: `${kernel.name} with loads`,
    bindings: [...kernel.bindings, { name: 'loads', kind: 'write' }],
    code: `${code}
      @group(0) @binding(${kernel.bindings.length}) var<storage, read_write> loads: array<atomic<u32>>;
      fn counted_weight(index: u32) -> vec4<u32> {
        atomicAdd(&loads[index], 1u);
        return weight[index];
      }`,
  };
}

/** [word] = loads of it in one dispatch over so many rows. */
async function loadsOf(
  kernel: Kernel,
  weight: PackedMatrix,
  { rowCount, grid, ...options }: MatmulOptions & { rowCount: number; grid: Grid },
): Promise<Uint32Array> {
  const counted = counting(kernel);
  const constants = { FORMAT: formatCodes[weight.format], ...(kernel.overrides.includes('ROWS') && { ROWS: 1 }) };
  const pipeline = await createPipeline(device(), counted, constants);
  const loads = empty(weight.buffer.size / 16);
  const bindGroup = createBindGroup(device(), counted, {
    params: matmulParams(device(), weight, options),
    rows: rowsOf(new Array(rowCount).fill(0)),
    weight: weight.buffer,
    scales: weight.scales,
    bias: empty(weight.outputSize),
    input: empty(rowCount * weight.inputSize),
    nextNorm: empty(4),
    output: empty(rowCount * weight.outputSize),
    loads,
  });
  run({ rows: rowCount, blocks: 0 }, { label: 'counted', bindGroup, pipeline: () => pipeline, grid: () => grid });
  return readUints(loads);
}

const sum = (values: Uint32Array) => values.reduce((total, value) => total + value, 0);

describe.each([
  ['f16', 640],
  ['f16', 36], // less than a piece for some of the segments
  ['q8', 640],
  ['q4', 1024],
] as [WeightFormat, number][])('loads of weight words, counted: %s K=%i', (format, inputSize) => {
  it.each([null, 'silu'] as const)('activation %s: one for 32 rows of a tile', async (activation) => {
    const outputSize = 160; // whole tiles, and whole workgroups of few rows
    const weight = await packed(createRandom(1).normals(outputSize * inputSize), inputSize, format);
    const words = weight.buffer.size / 16;
    expect(words).toBe(outputSize * weight.segments * weight.segmentWords); // no padding of rows among them
    const options = { hasBias: false, addOutput: false, activation };
    for (const rowCount of [64, 33, 9]) {
      const tiles: Grid = [Math.ceil(rowCount / 32), Math.ceil(outputSize / 32), 1];
      const loads = await loadsOf(matmulTile, weight, { ...options, rowCount, grid: tiles });
      expect(loads).toEqual(new Uint32Array(words).fill(Math.ceil(rowCount / 32)));
      if (rowCount !== 64) continue;
      // Against decoding, which loads every word for every token.
      const groups: Grid = [Math.ceil(outputSize / 2 / rowsPerGroup(weight.segments)), 1, 1];
      const decoded = await loadsOf(matmulRows, weight, { ...options, rowCount: 1, grid: groups });
      expect(decoded).toEqual(new Uint32Array(words).fill(1));
      expect(sum(loads) / rowCount / sum(decoded)).toBeLessThanOrEqual(1 / 16);
    }
  });
});
