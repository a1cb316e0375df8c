/** The cache's disk, in memory: with a size, and with faults on demand. */
import type { FileStore } from '../../../src/model/file_store.ts';

export type MemoryStore = FileStore & {
  /** Folder → file → bytes. */
  disk: Map<string, Map<string, Uint8Array<ArrayBuffer>>>;
  locked: Set<string>;
  /** What `freeBytes` tells, and what there is; null for no limit. */
  toldBytes: number | null;
  capacityBytes: number | null;
  usedBytes(): number;
};

export function memoryStore(): MemoryStore {
  const disk: MemoryStore['disk'] = new Map();
  const filesOf = (folder: string) => {
    const files = disk.get(folder);
    if (files === undefined) throw new DOMException(`no ${folder}`, 'NotFoundError');
    return files;
  };
  const store: MemoryStore = {
    disk,
    locked: new Set(),
    toldBytes: null,
    capacityBytes: null,
    usedBytes: () =>
      [...disk.values()].flatMap((files) => [...files.values()]).reduce((sum, { length }) => sum + length, 0),
    folders: async () => [...disk.keys()],
    files: async (folder) => {
      const files = disk.get(folder);
      return files === undefined ? null : new Map([...files].map(([name, { length }]) => [name, length]));
    },
    read: async (folder, name) => {
      const bytes = filesOf(folder).get(name);
      if (bytes === undefined) throw new DOMException(`no ${name}`, 'NotFoundError');
      return new Blob([bytes]);
    },
    create: async (folder) => {
      if (!disk.has(folder)) disk.set(folder, new Map());
    },
    write: async (folder, name, bytes) => {
      const files = filesOf(folder);
      if (store.capacityBytes !== null && store.usedBytes() + bytes.length > store.capacityBytes) {
        throw new DOMException('the disk is full', 'QuotaExceededError');
      }
      files.set(name, bytes.slice());
    },
    remove: async (folder, name) => {
      if (name === undefined) disk.delete(folder);
      else disk.get(folder)?.delete(name);
    },
    freeBytes: async () => store.toldBytes,
    lock: async (name) => {
      if (store.locked.has(name)) return null;
      store.locked.add(name);
      return () => store.locked.delete(name);
    },
  };
  return store;
}
