import attentionCode from '../../shaders/attention.wgsl?raw';
import attendCode from '../../shaders/lib/attend.wgsl?raw';
import halfCode from '../../shaders/lib/half.wgsl?raw';
import rowsCode from '../../shaders/lib/rows.wgsl?raw';
import scoresCode from '../../shaders/lib/scores.wgsl?raw';
import windowCode from '../../shaders/lib/window.wgsl?raw';
import { createParams } from '../gpu/buffers.ts';
import type { Gpu } from '../gpu/device.ts';
import { createBindGroup, createPipeline, type Kernel, type PassShape, type Step } from '../gpu/kernel.ts';
import type { AttentionShape } from './rope_kv.ts';

export const attention: Kernel = {
  name: 'attention',
  code: rowsCode + halfCode + windowCode + scoresCode + attendCode + attentionCode,
  bindings: [
    { name: 'params', kind: 'uniform' },
    { name: 'rows', kind: 'read' },
    { name: 'query', kind: 'read' },
    { name: 'keys', kind: 'read' },
    { name: 'values', kind: 'read' },
    { name: 'blockTable', kind: 'read' },
    { name: 'partials', kind: 'write' },
  ],
  overrides: ['HEAD_DIM', 'QUERIES'],
  params: [
    { name: 'headCount', type: 'u32' },
    { name: 'kvHeadCount', type: 'u32' },
    { name: 'blocksPerSlot', type: 'u32' },
    { name: 'partsPerGroup', type: 'u32' },
    { name: 'scale', type: 'f32' },
    { name: 'window', type: 'u32' },
  ],
};

/** Query heads and rows that share a load of keys and values: SHARED_QUERIES of the shader. */
const sharedQueries = 8;
/** The pipelines, by the queries that they have room for. What is not there takes no registers and no workgroup memory. */
export const queryVariants = [1, 2, 4, 8] as const;

/** Most neighbouring rows of a slot that share loads of keys and values: a query group of rows.wgsl. */
export function groupRowsOf({ headCount, kvHeadCount }: Pick<AttentionShape, 'headCount' | 'kvHeadCount'>): number {
  return Math.max(1, Math.floor((sharedQueries * kvHeadCount) / headCount));
}

/** Which pipeline serves workgroups of so many rows of a query group. */
export function queryVariantOf(heads: Pick<AttentionShape, 'headCount' | 'kvHeadCount'>, rows: number): number {
  const queries = Math.min(sharedQueries, (heads.headCount / heads.kvHeadCount) * Math.min(rows, groupRowsOf(heads)));
  return queryVariants.find((variant) => variant >= queries) as number;
}

/** The pipelines that passes of these heads can take. */
export function queryVariantsOf(heads: Pick<AttentionShape, 'headCount' | 'kvHeadCount'>): number[] {
  const rowCounts = Array.from({ length: groupRowsOf(heads) }, (_, i) => i + 1);
  return [...new Set(rowCounts.map((rows) => queryVariantOf(heads, rows)))];
}

/** Bytes of `partials` for T rows: (T, H, blocks, headDim / 4 + 1) of vec4 f32. */
export function partialsSize(rows: number, { headCount, headDim, blocksPerSlot }: AttentionShape): number {
  return rows * headCount * blocksPerSlot * (headDim + 4) * 4;
}

/** Query groups of a pass at most: each run fills its groups but for the last. */
export function groupsOf({ rows, runs = 1 }: PassShape, groupRows: number): number {
  return Math.floor((rows + runs * (groupRows - 1)) / groupRows);
}

export type AttentionBuffers = {
  rows: GPUBuffer;
  query: GPUBuffer;
  keys: GPUBuffer;
  values: GPUBuffer;
  blockTable: GPUBuffer;
};
/** `scale`: of q · k. `window`: positions that a row sees, its own included; null: all before it. */
export type AttentionOptions = { scale: number; window: number | null };

/** For attention and attention_tile. */
export function attentionParams(
  gpu: Gpu,
  { headCount, kvHeadCount, blocksPerSlot }: AttentionShape,
  partsPerGroup: number,
  { scale, window }: AttentionOptions,
): GPUBuffer {
  const fields = [headCount, kvHeadCount, blocksPerSlot, partsPerGroup, { f32: scale }, window ?? 0];
  return createParams(gpu, 'attention params', fields);
}

/** `paddedQueries`: one pipeline of 8 queries serves every pass, for devices on which the variants differ in rounding. */
export async function attentionStep(
  gpu: Gpu,
  buffers: AttentionBuffers & { partials: GPUBuffer },
  shape: AttentionShape,
  { paddedQueries, ...options }: AttentionOptions & { paddedQueries: boolean },
): Promise<Step> {
  const { headCount, kvHeadCount, headDim } = shape;
  const groupRows = groupRowsOf({ headCount, kvHeadCount });
  const partsPerGroup = Math.ceil(headCount / kvHeadCount / sharedQueries);
  const variants = paddedQueries ? [sharedQueries] : queryVariantsOf({ headCount, kvHeadCount });
  const compile = async (queries: number) =>
    [queries, await createPipeline(gpu, attention, { HEAD_DIM: headDim, QUERIES: queries })] as const;
  const pipelines = new Map(await Promise.all(variants.map(compile)));
  // Each run has a row at least.
  const pipelineOf = ({ rows, runs = 1, runRows = rows - runs + 1 }: PassShape): GPUComputePipeline => {
    const queries = paddedQueries ? sharedQueries : queryVariantOf({ headCount, kvHeadCount }, runRows);
    return pipelines.get(queries) as GPUComputePipeline;
  };
  const params = attentionParams(gpu, shape, partsPerGroup, options);
  return {
    label: 'attention',
    bindGroup: createBindGroup(gpu, attention, { params, ...buffers }),
    pipeline: pipelineOf,
    grid: (pass) => [pass.blocks, kvHeadCount, groupsOf(pass, groupRows) * partsPerGroup],
  };
}
