import attentionTileCode from '../../shaders/attention_tile.wgsl?raw';
import attendCode from '../../shaders/lib/attend.wgsl?raw';
import foldCode from '../../shaders/lib/fold.wgsl?raw';
import halfCode from '../../shaders/lib/half.wgsl?raw';
import rowsCode from '../../shaders/lib/rows.wgsl?raw';
import scoresCode from '../../shaders/lib/scores.wgsl?raw';
import windowCode from '../../shaders/lib/window.wgsl?raw';
import type { Gpu } from '../gpu/device.ts';
import { createBindGroup, createPipeline, type Kernel, type Step } from '../gpu/kernel.ts';
import {
  type AttentionBuffers,
  type AttentionOptions,
  attention,
  attentionParams,
  groupRowsOf,
  groupsOf,
  queryVariants,
} from './attention.ts';
import type { AttentionShape } from './rope_kv.ts';

export const attentionTile: Kernel = {
  name: 'attention_tile',
  code: rowsCode + halfCode + windowCode + scoresCode + attendCode + foldCode + attentionTileCode,
  bindings: [...attention.bindings.slice(0, -1), { name: 'output', kind: 'write' }],
  overrides: attention.overrides,
  params: attention.params,
};

/** Workgroup memory that every device has, in bytes. */
const workgroupBytes = 16_384;
/** What a query takes of it beside its values: scores, maxima, sums, and those of the lanes. */
const queryBytes = 4 * (64 + 8 + 4 + 4 * 64);

/** Most queries that a workgroup has room for. */
export function tileQueriesOf(headDim: number): number {
  return queryVariants.findLast((queries) => queries * (queryBytes + 4 * headDim) <= workgroupBytes) ?? 1;
}

/** output (T, H · headDim) = attention of each row, for many rows; the bits of attentionStep and attentionFoldStep. */
export async function attentionTileStep(
  gpu: Gpu,
  buffers: AttentionBuffers & { output: GPUBuffer },
  shape: AttentionShape,
  options: AttentionOptions,
): Promise<Step> {
  const { headCount, kvHeadCount, headDim } = shape;
  const queries = tileQueriesOf(headDim);
  const groupRows = groupRowsOf(shape);
  const partsPerGroup = Math.ceil((groupRows * headCount) / kvHeadCount / queries);
  const pipeline = await createPipeline(gpu, attentionTile, { HEAD_DIM: headDim, QUERIES: queries });
  const params = attentionParams(gpu, shape, partsPerGroup, options);
  return {
    label: 'attention_tile',
    bindGroup: createBindGroup(gpu, attentionTile, { params, ...buffers }),
    pipeline: () => pipeline,
    grid: (pass) => [1, kvHeadCount, groupsOf(pass, groupRows) * partsPerGroup],
  };
}
