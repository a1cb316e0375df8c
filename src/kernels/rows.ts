import rowsLibCode from '../../shaders/lib/rows.wgsl?raw';
import stateCode from '../../shaders/lib/state.wgsl?raw';
import rowsCode from '../../shaders/rows.wgsl?raw';
import { createParams } from '../gpu/buffers.ts';
import type { Gpu } from '../gpu/device.ts';
import { createBindGroup, createPipeline, type Kernel, type Step } from '../gpu/kernel.ts';

export const rows: Kernel = {
  name: 'rows',
  code: stateCode + rowsLibCode + rowsCode,
  bindings: [
    { name: 'params', kind: 'uniform' },
    { name: 'state', kind: 'write' },
    { name: 'history', kind: 'read' },
    { name: 'sampled', kind: 'read' },
    { name: 'rows', kind: 'write' },
  ],
  overrides: ['MODE'],
  params: [
    { name: 'slot', type: 'u32' },
    { name: 'slotCount', type: 'u32' },
    { name: 'step', type: 'u32' },
    { name: 'capacity', type: 'u32' },
    { name: 'isDraft', type: 'u32' },
    { name: 'historyStride', type: 'u32' },
    { name: 'groupRows', type: 'u32' },
  ],
};

/** What the rows of a pass are taken from: a prompt or a gap in one slot, or a round of all that have a turn; see the shader. */
export type RowsSource =
  | { mode: 'prefill'; slot: number; model: 'target' | 'draft'; capacity: number }
  | { mode: 'catchUp'; slot: number; capacity: number }
  | { mode: 'draftFirst' }
  | { mode: 'draftNext'; step: number }
  | { mode: 'verify' | 'verifyFound' };

const modes = { prefill: 0, catchUp: 1, draftFirst: 2, draftNext: 3, verify: 4, verifyFound: 5 } as const;

/** Bytes of a `Rows` buffer for T rows: a header of four words, four words a row. */
export const rowsSize = (rowCount: number): number => 16 + rowCount * 16;

export async function rowsStep(
  gpu: Gpu,
  buffers: { state: GPUBuffer; history: GPUBuffer; sampled: GPUBuffer; rows: GPUBuffer },
  {
    slots,
    historyStride,
    groupRows,
    source,
  }: { slots: number; historyStride: number; groupRows: number; source: RowsSource },
): Promise<Step> {
  const pipeline = await createPipeline(gpu, rows, { MODE: modes[source.mode] });
  const params = createParams(gpu, 'rows params', [
    'slot' in source ? source.slot : 0,
    slots,
    source.mode === 'draftNext' ? source.step : 0,
    'capacity' in source ? source.capacity : 0,
    source.mode === 'prefill' && source.model === 'draft' ? 1 : 0,
    historyStride,
    groupRows,
  ]);
  return {
    label: `rows ${source.mode}`,
    bindGroup: createBindGroup(gpu, rows, { params, ...buffers }),
    pipeline: () => pipeline,
    grid: () => [1, 1, 1],
  };
}
