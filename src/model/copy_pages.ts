import type { Gpu } from '../gpu/device.ts';
import { type Copy, submitCopies } from '../gpu/submit.ts';
import type { KvCache } from './kv_cache.ts';

/** Copies pages with all their layers, behind the work submitted so far; `from` and `to` have no page in common. */
export function copyPages(
  gpu: Gpu,
  { keys, values, pageBytes, copied }: KvCache,
  from: readonly number[],
  to: readonly number[],
): void {
  const copies: Copy[] = [];
  const atOnce = copied.size / pageBytes;
  for (const buffer of [...keys, ...values]) {
    for (let start = 0; start < from.length; start += atOnce) {
      const group = from.slice(start, start + atOnce).entries();
      const moves = [...group].map(([i, page]) => ({
        held: { buffer: copied, bytes: i * pageBytes },
        source: { buffer, bytes: page * pageBytes },
        target: { buffer, bytes: (to[start + i] as number) * pageBytes },
      }));
      const copy = (a: { buffer: GPUBuffer; bytes: number }, b: { buffer: GPUBuffer; bytes: number }): Copy => ({
        from: a.buffer,
        fromBytes: a.bytes,
        to: b.buffer,
        toBytes: b.bytes,
        sizeBytes: pageBytes,
      });
      copies.push(...moves.map(({ source, held }) => copy(source, held)));
      copies.push(...moves.map(({ held, target }) => copy(held, target)));
    }
  }
  submitCopies(gpu, 'page copy', copies);
}
