/** Where the cache keeps its files: folders of small files, each written whole or not at all. */

export type FileStore = {
  folders(): Promise<string[]>;
  /** Name → bytes; null where there is no such folder. */
  files(folder: string): Promise<ReadonlyMap<string, number> | null>;
  read(folder: string, name: string): Promise<Blob>;
  create(folder: string): Promise<void>;
  /** Whole or not at all. Rejects where the folder is gone, or the disk full. */
  write(folder: string, name: string, bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  remove(folder: string, name?: string): Promise<void>;
  /** Null when unknown. */
  freeBytes(): Promise<number | null>;
  /** Null where another page has the lock; else call the result to give it back. It ends with the page, too. */
  lock(name: string): Promise<(() => void) | null>;
};

const ROOT = 'foretoken-models';

/** The origin's private file system; null where there is none (Node, pages that are not secure). */
export function browserStore(): FileStore | null {
  const storage = globalThis.navigator?.storage as StorageManager | undefined;
  if (typeof storage?.getDirectory !== 'function') return null;
  const root = async () => (await storage.getDirectory()).getDirectoryHandle(ROOT, { create: true });
  const folderHandle = async (folder: string) => (await root()).getDirectoryHandle(folder);
  return {
    async folders() {
      const names: string[] = [];
      for await (const [name, { kind }] of await root()) if (kind === 'directory') names.push(name);
      return names;
    },
    async files(folder) {
      const sizes = new Map<string, number>();
      const handle = await folderHandle(folder).catch(nullIfNotFound);
      if (handle === null) return null;
      for await (const [name, file] of handle) {
        if (file.kind === 'file') sizes.set(name, (await (file as FileSystemFileHandle).getFile()).size);
      }
      return sizes;
    },
    async read(folder, name) {
      return (await (await folderHandle(folder)).getFileHandle(name)).getFile();
    },
    async create(folder) {
      await (await root()).getDirectoryHandle(folder, { create: true });
    },
    async write(folder, name, bytes) {
      const handle = await folderHandle(folder);
      const file = await handle.getFileHandle(name, { create: true });
      try {
        const writable = await file.createWritable();
        // What is written takes the file's place when it is closed.
        await writable.write(bytes).catch(async (error) => {
          await writable.abort();
          throw error;
        });
        await writable.close();
      } catch (error) {
        await handle.removeEntry(name).catch(() => {});
        throw error;
      }
    },
    async remove(folder, name) {
      const [parent, entry] = name === undefined ? [await root(), folder] : [await folderHandle(folder), name];
      await parent.removeEntry(entry, { recursive: true }).catch(nullIfNotFound);
    },
    async freeBytes() {
      const { quota, usage } = await storage.estimate();
      return quota === undefined || usage === undefined ? null : quota - usage;
    },
    async lock(name) {
      const { locks } = globalThis.navigator;
      if (locks === undefined) return () => {};
      return new Promise((resolve, reject) => {
        const held = (lock: Lock | null) =>
          new Promise<void>((release) => {
            resolve(lock === null ? null : release);
            if (lock === null) release();
          });
        locks.request(`foretoken ${name}`, { ifAvailable: true }, held).catch(reject);
      });
    },
  };
}

function nullIfNotFound(error: unknown): null {
  if ((error as Error | null)?.name === 'NotFoundError') return null;
  throw error;
}
