import { createStorage, createStorageFrom } from '../gpu/buffers.ts';
import type { Gpu } from '../gpu/device.ts';
import type { ModelConfig } from './config.ts';

/** Positions per page, also per attention block. */
export const blockSize = 64;

/** Rows behind the context that a round's last drafts may touch. */
export const spareRows = 8;

/** Keys and values of every layer, in pages of 64 positions that a slot reaches through its block table. */
export type KvCache = {
  keys: GPUBuffer[]; // per layer (pages, K, headDim / 4, 64) of four f16
  values: GPUBuffer[]; // per layer (pages, K, 64, headDim / 4) of four f16
  blockTable: GPUBuffer; // (slots, blocksPerSlot) u32
  blocksPerSlot: number;
  pageCount: number;
  /** Of one layer's keys or values. */
  pageBytes: number;
  /** A few pages of a copy under way: WebGPU copies nothing within one buffer. */
  copied: GPUBuffer;
};

/** Pages that a copy moves at a time. */
const copiedPages = 8;

export function createKvCache(
  gpu: Gpu,
  label: string,
  { layerCount, kvHeadCount, headDim }: ModelConfig,
  { slots, contextLength, pageCount }: { slots: number; contextLength: number; pageCount?: number },
): KvCache {
  const blocksPerSlot = pagesFor(contextLength);
  const pages = pageCount ?? slots * blocksPerSlot;
  const pageBytes = blockSize * kvHeadCount * headDim * 2;
  const perLayer = (name: string) =>
    Array.from({ length: layerCount }, (_, layer) =>
      createStorage(gpu, `${label} ${name} ${layer}`, pages * pageBytes),
    );
  return {
    keys: perLayer('keys'),
    values: perLayer('values'),
    // Slot 0 has the first pages, the next slot those behind them, until they are assigned otherwise.
    blockTable: createStorageFrom(
      gpu,
      `${label} block table`,
      Uint32Array.from({ length: slots * blocksPerSlot }, (_, page) => Math.min(page, pages - 1)),
    ),
    blocksPerSlot,
    pageCount: pages,
    pageBytes,
    copied: createStorage(gpu, `${label} copied pages`, Math.min(copiedPages, pages) * pageBytes),
  };
}

/** Pages that hold `length` positions and the rows behind them. */
export function pagesFor(length: number): number {
  return Math.ceil((length + spareRows) / blockSize);
}

/** From the work submitted next on, `slot` has `pages`, in the order of its positions. */
export function assignPages(
  gpu: Gpu,
  { blockTable, blocksPerSlot }: KvCache,
  slot: number,
  pages: readonly number[],
): void {
  gpu.device.queue.writeBuffer(blockTable, slot * blocksPerSlot * 4, Uint32Array.from(pages));
}
