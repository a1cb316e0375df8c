/** Adds to the cache's copy of a file, part by part. */
import { type CacheEntry, PART_BYTES, partName, readEntry, sha256, writeAbout } from './cache_entry.ts';
import type { FileStore } from './file_store.ts';

export type CacheWriter = {
  append(chunk: Uint8Array): Promise<void>;
  /** Keeps what is short of a part, too. @param sizeBytes of the whole file, where it is known by now */
  finish(sizeBytes: number | null): Promise<void>;
  close(): void;
};

/** Left free for the rest of the page. */
const MARGIN_BYTES = 16 * 2 ** 20;

/**
 * Null where nothing can be kept: another page writes this file, or the disk is full.
 * @param entry the copy that is continued; null for a new one
 */
export async function openCacheWriter(
  store: FileStore,
  folder: string,
  entry: CacheEntry | null,
  about: CacheEntry['about'],
): Promise<CacheWriter | null> {
  let release: (() => void) | null = null;
  const pending: Uint8Array[] = [];
  let pendingBytes = 0;
  let index = entry?.parts.length ?? 0;
  /** The short part at the end of the copy, which a longer one will replace. */
  let shortPart: string | null = null;
  let isOpen = true;

  const close = () => {
    isOpen = false;
    pending.length = 0;
    release?.();
    release = null;
  };
  /** Runs a step of writing. When one fails, the copy goes: part of a model takes up room and is of no use. */
  const attempt = async (step: () => Promise<void>): Promise<void> => {
    if (!isOpen) return;
    try {
      await step();
    } catch (error) {
      await store.remove(folder).catch(() => {});
      close();
      warn(about.url, error instanceof Error ? error.message || error.name : String(error));
    }
  };
  const flush = async (): Promise<void> => {
    const bytes = new Uint8Array(pendingBytes);
    let at = 0;
    for (const chunk of pending) {
      bytes.set(chunk, at);
      at += chunk.length;
    }
    pending.length = 0;
    pendingBytes = 0;
    const name = partName(index, await sha256(bytes));
    await store.write(folder, name, bytes);
    if (shortPart !== null && shortPart !== name) await store.remove(folder, shortPart);
    shortPart = null;
    index += 1;
  };

  const prepare = async (): Promise<boolean> => {
    release = await store.lock(folder);
    if (release === null) return false;
    // Another page may have been here meanwhile.
    const now = await readEntry(store, folder);
    if ((now?.coveredBytes ?? 0) !== (entry?.coveredBytes ?? 0)) return false;
    const coveredBytes = entry?.coveredBytes ?? 0;
    const neededBytes = Math.max(PART_BYTES, (about.sizeBytes ?? 0) - coveredBytes);
    const freeBytes = await store.freeBytes();
    if (freeBytes !== null && neededBytes + MARGIN_BYTES > freeBytes) {
      warn(about.url, `it needs ${neededBytes} bytes, and the browser grants ${Math.max(0, freeBytes)} more`);
      return false;
    }
    if (entry === null) {
      await store.remove(folder);
      await store.create(folder);
    }
    await writeAbout(store, folder, about);
    const last = entry?.parts.at(-1);
    if (last !== undefined && last.bytes < PART_BYTES) {
      pending.push(new Uint8Array(await (await store.read(folder, last.name)).arrayBuffer()));
      pendingBytes = last.bytes;
      shortPart = last.name;
      index -= 1;
    }
    return true;
  };
  const isReady = await prepare().catch(() => false);
  if (!isReady) {
    close();
    return null;
  }
  return {
    append: (chunk) =>
      attempt(async () => {
        for (let rest = chunk; rest.length > 0; ) {
          const part = rest.subarray(0, PART_BYTES - pendingBytes);
          rest = rest.subarray(part.length);
          pending.push(part);
          pendingBytes += part.length;
          if (pendingBytes === PART_BYTES) await flush();
        }
      }),
    finish: (sizeBytes) =>
      attempt(async () => {
        if (pendingBytes > 0) await flush();
        if (sizeBytes !== about.sizeBytes) await writeAbout(store, folder, { ...about, sizeBytes });
      }),
    close,
  };
}

function warn(url: string, cause: string): void {
  console.warn(
    `foretoken: ${url} is not kept in the cache: ${cause}. It is loaded all the same, and will be fetched again next ` +
      'time. `modelCache` of foretoken lists and deletes what is kept.',
  );
}
