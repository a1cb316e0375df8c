/** A stream read by counts of bytes instead of by chunks, as they happen to come. */
import type { FileStream } from './body.ts';

export type ByteReader = {
  /** Bytes read so far. */
  position(): number;
  /** Fills `target`. @returns the bytes that there were; fewer than asked for at the end of the stream */
  fill(target: Uint8Array): Promise<number>;
  /** The next `count` bytes, or as many as there are. Allocates no more than that. */
  take(count: number): Promise<Uint8Array>;
  /** Passes over `count` bytes, or as many as there are. */
  skip(count: number): Promise<void>;
  close(): Promise<void>;
};

export function createByteReader({ chunks, isDisposable = false }: Omit<FileStream, 'length' | 'isFirm'>): ByteReader {
  let rest: Uint8Array = new Uint8Array(0);
  let chunk: Uint8Array = rest;
  let position = 0;
  /** Up to `count` bytes of one chunk; null at the end. */
  const next = async (count: number): Promise<Uint8Array | null> => {
    while (rest.length === 0) {
      if (isDisposable) release(chunk);
      const result = await chunks.next();
      if (result.done) return null;
      chunk = result.value;
      rest = chunk;
    }
    const part = rest.subarray(0, count);
    rest = rest.subarray(part.length);
    position += part.length;
    return part;
  };
  const each = async (count: number, use: (part: Uint8Array, at: number) => void): Promise<number> => {
    let done = 0;
    while (done < count) {
      const part = await next(count - done);
      if (part === null) break;
      use(part, done);
      done += part.length;
    }
    return done;
  };
  return {
    position: () => position,
    fill: (target) => each(target.length, (part, at) => target.set(part, at)),
    async take(count) {
      // What a header claims is no reason to allocate.
      const parts: Uint8Array[] = [];
      const taken = await each(count, (part) => parts.push(isDisposable ? part.slice() : part));
      const joined = new Uint8Array(taken);
      let at = 0;
      for (const part of parts) {
        joined.set(part, at);
        at += part.length;
      }
      return joined;
    },
    async skip(count) {
      await each(count, () => {});
    },
    close: async () => void (await chunks.return()),
  };
}

/** Frees its memory now, where the browser can: collectors let 64 MiB of such garbage come together. */
function release({ buffer, byteLength }: Uint8Array): void {
  // Safari and Firefox have it since 2024, Node since 21.
  if (byteLength === buffer.byteLength) (buffer as { transfer?: (bytes: number) => ArrayBuffer }).transfer?.(0);
}
