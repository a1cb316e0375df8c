/** What the cache has, for pages to show and to delete. */
import type { CachedFile, ModelCache } from '../cache_types.ts';
import { isComplete, readEntry, sha256 } from './cache_entry.ts';
import { isCurrent } from './fetch_file.ts';
import type { FileStore } from './file_store.ts';
import { labelOf, parseModelUrl } from './model_url.ts';

export function createModelCache(openStore: () => FileStore | null): ModelCache {
  type Kept = CachedFile & { folder: string };
  const kept = async (store: FileStore): Promise<Kept[]> => {
    const result: Kept[] = [];
    for (const folder of await store.folders()) {
      const entry = await readEntry(store, folder);
      if (entry === null || entry.about.isMissing) continue;
      result.push({
        folder,
        url: entry.about.url,
        sizeBytes: entry.coveredBytes,
        totalBytes: entry.about.sizeBytes,
        isComplete: isComplete(entry),
      });
    }
    return result.sort((a, b) => (a.url < b.url ? -1 : 1));
  };
  const withoutFolder = ({ folder: _, ...file }: Kept): CachedFile => file;
  const remove = async (store: FileStore, files: readonly Kept[]): Promise<number> => {
    let freedBytes = 0;
    for (const { folder, sizeBytes } of files) {
      await store.remove(folder);
      freedBytes += sizeBytes;
    }
    return freedBytes;
  };
  const belongsTo = (target: string) => {
    const label = labelOf(parseModelUrl(target, undefined));
    return ({ url }: Kept) => (label.endsWith('/') ? url.replace(/[^/]*$/, '') === label : url === label);
  };

  return {
    async list() {
      const store = openStore();
      return store === null ? [] : (await kept(store)).map(withoutFolder);
    },
    async check(target) {
      const isOfModel = belongsTo(target);
      const store = openStore();
      const files = store === null ? [] : (await kept(store)).filter(isOfModel);
      const damaged: string[] = [];
      const outdated: string[] = [];
      for (const { folder, url } of files) {
        const entry = await readEntry(store as FileStore, folder);
        if (entry === null) continue; // deleted meanwhile
        for (const { name, sha256: expected } of entry.parts) {
          const bytes = await (await (store as FileStore).read(folder, name)).arrayBuffer();
          if ((await sha256(new Uint8Array(bytes))) === expected) continue;
          damaged.push(url);
          break;
        }
        if ((await isCurrent(new URL(url), entry.about.version)) === false) outdated.push(url);
      }
      return { files: files.map(withoutFolder), damaged, outdated };
    },
    async delete(target) {
      const isOfModel = belongsTo(target);
      const store = openStore();
      return store === null ? 0 : remove(store, (await kept(store)).filter(isOfModel));
    },
    async clear() {
      const store = openStore();
      if (store === null) return 0;
      const freedBytes = await remove(store, await kept(store));
      for (const folder of await store.folders()) await store.remove(folder);
      return freedBytes;
    },
  };
}
