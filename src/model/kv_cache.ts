import { createStorage, createStorageFrom } from '../gpu/buffers.ts';
import type { Gpu } from '../gpu/device.ts';
import type { ModelConfig } from './config.ts';

/** Positions per page, also per attention block. */
export const blockSize = 64;

/** Rows behind the context that a round's last drafts may touch. */
export const spareRows = 8;

/** Keys and values of every layer, in pages of 64 positions that a slot reaches through its block table. */
export type KvCache = {
  keys: GPUBuffer[]; // per layer (pages, K, headDim / 4, 64) of vec4 f32
  values: GPUBuffer[]; // per layer (pages, K, 64, headDim) f32
  blockTable: GPUBuffer; // (slots, blocksPerSlot) u32
  blocksPerSlot: number;
};

export function createKvCache(
  gpu: Gpu,
  label: string,
  { layerCount, kvHeadCount, headDim }: ModelConfig,
  { slots, contextLength }: { slots: number; contextLength: number },
): KvCache {
  const blocksPerSlot = Math.ceil((contextLength + spareRows) / blockSize);
  const pages = slots * blocksPerSlot;
  const sizeBytes = pages * blockSize * kvHeadCount * headDim * 4;
  const perLayer = (name: string) =>
    Array.from({ length: layerCount }, (_, layer) => createStorage(gpu, `${label} ${name} ${layer}`, sizeBytes));
  return {
    keys: perLayer('keys'),
    values: perLayer('values'),
    // Identity: every slot owns its pages. Sharing them changes this table alone.
    blockTable: createStorageFrom(
      gpu,
      `${label} block table`,
      Uint32Array.from({ length: pages }, (_, page) => page),
    ),
    blocksPerSlot,
  };
}
