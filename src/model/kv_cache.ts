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

/** cos and sin of every (position, pair), in float64 on the host: (positions, headDim / 2) of (cos, sin) f32. */
export function rotationTable(positions: number, headDim: number, ropeTheta: number): Float32Array<ArrayBuffer> {
  const half = headDim / 2;
  const table = new Float32Array(positions * half * 2);
  for (let position = 0; position < positions; position++) {
    for (let pair = 0; pair < half; pair++) {
      const angle = position * ropeTheta ** ((-2 * pair) / headDim);
      table[(position * half + pair) * 2] = Math.cos(angle);
      table[(position * half + pair) * 2 + 1] = Math.sin(angle);
    }
  }
  return table;
}
