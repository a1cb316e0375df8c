/**
 * Files from servers, kept on disk as they come. Loading never fails for want of the cache: what cannot be kept is loaded
 * all the same. A copy is used as long as the server does not say that it has another version.
 */
import { ModelFetchError } from '../errors.ts';
import type { FileStream, OpenOptions } from './body.ts';
import { type CacheEntry, folderOf, readEntry, sha256, writeAbout } from './cache_entry.ts';
import { type CacheWriter, openCacheWriter } from './cache_writer.ts';
import { isCurrent, isSameVersion, openUrl, type UrlStream } from './fetch_file.ts';
import type { FileStore } from './file_store.ts';
import { labelOf } from './model_url.ts';

export type FileCache = { open(url: URL, file: string, options: OpenOptions): Promise<FileStream | null> };

/**
 * For one load: in it a file that is read twice must be the same file.
 * @param keepsOwn also the files of the page's own origin, which its author may change at any time
 */
export function createFileCache(store: FileStore, keepsOwn: boolean): FileCache {
  /** Folders whose copy is that of the server. */
  const current = new Set<string>();

  const find = async (url: URL): Promise<{ folder: string; entry: CacheEntry | null } | null> => {
    try {
      const folder = await folderOf(url);
      return { folder, entry: await readEntry(store, folder) };
    } catch {
      return null; // no storage for this page, as in some private windows
    }
  };

  return {
    async open(url, file, options) {
      const { signal, range, optional } = options;
      signal?.throwIfAborted();
      const isOwn = url.origin === (globalThis.location as Location | undefined)?.origin;
      const found = isOwn && !keepsOwn ? null : await find(url);
      if (found === null) return openUrl(url, file, options);
      const { folder } = found;
      const { begin, end } = range ?? { begin: 0, end: Number.POSITIVE_INFINITY };

      let { entry } = found;
      if (entry !== null && isCovered(entry, end)) {
        if (current.has(folder) || (await isCurrent(url, entry.about.version, signal)) !== false) {
          current.add(folder);
          return diskStream(store, folder, entry, begin, end, signal);
        }
        await store.remove(folder).catch(() => {});
        entry = null;
      }
      const wasMissing = entry?.about.isMissing === true;
      // Nothing was kept of it yet.
      if (entry?.coveredBytes === 0) entry = null;
      const coveredBytes = entry?.coveredBytes ?? 0;
      // Only what follows the copy can be added to it.
      if (begin > coveredBytes) return openUrl(url, file, options);

      const wanted = entry === null ? options : { ...options, range: { begin: coveredBytes, end } };
      let stream: UrlStream | null;
      try {
        stream = await openUrl(url, file, wanted);
      } catch (error) {
        signal?.throwIfAborted();
        if (wasMissing && optional) return null;
        throw error;
      }
      if (stream === null) {
        await rememberMissing(store, folder, url);
        return null;
      }
      if (entry !== null && !continues(entry, stream)) {
        discard(stream);
        await store.remove(folder).catch(() => {});
        if (current.has(folder)) {
          throw new ModelFetchError(
            `${labelOf(url)} has changed on the server while it was being loaded. Load the model again.`,
          );
        }
        entry = null;
        stream = await openUrl(url, file, options);
        if (stream === null || begin > 0) return stream;
      }
      current.add(folder);
      return continued(store, folder, url, entry, stream, begin, end, signal);
    },
  };
}

const isCovered = ({ about: { sizeBytes, isMissing }, coveredBytes }: CacheEntry, end: number) =>
  !isMissing && coveredBytes >= Math.min(end, sizeBytes ?? Number.POSITIVE_INFINITY);

/** True only where it is certain that the stream goes on with the file of the entry. */
function continues({ about, coveredBytes }: CacheEntry, { version, fileBytes }: UrlStream): boolean {
  if (fileBytes !== null && fileBytes < coveredBytes) return false;
  if (fileBytes !== null && about.sizeBytes !== null && fileBytes !== about.sizeBytes) return false;
  return isSameVersion(about.version, version) === true;
}

/** A stream must be begun before it can be ended. */
function discard({ chunks }: FileStream): void {
  void chunks
    .next()
    .then(() => chunks.return())
    .catch(() => {});
}

async function rememberMissing(store: FileStore, folder: string, url: URL): Promise<void> {
  const about = { url: labelOf(url), version: { etag: null, lastModified: null }, sizeBytes: null, isMissing: true };
  try {
    await store.remove(folder);
    await store.create(folder);
    await writeAbout(store, folder, about);
  } catch {
    // Offline it will be asked for in vain.
  }
}

function diskStream(
  store: FileStore,
  folder: string,
  entry: CacheEntry,
  begin: number,
  end: number,
  signal: AbortSignal | undefined,
): FileStream {
  const last = Math.min(end, entry.coveredBytes);
  const length = Math.max(0, last - begin);
  return { length, isFirm: true, chunks: diskChunks(store, folder, entry, begin, last, signal), isDisposable: true };
}

async function* diskChunks(
  store: FileStore,
  folder: string,
  { about, parts }: CacheEntry,
  begin: number,
  end: number,
  signal: AbortSignal | undefined,
): FileStream['chunks'] {
  let at = 0;
  for (const { name, bytes, sha256: expected } of parts) {
    const from = Math.max(0, begin - at);
    const to = Math.min(bytes, end - at);
    at += bytes;
    if (from >= to) continue;
    signal?.throwIfAborted();
    let part: Uint8Array<ArrayBuffer> | null = null;
    let cause = 'it is not what was written';
    try {
      part = new Uint8Array(await (await store.read(folder, name)).arrayBuffer());
      if ((await sha256(part)) !== expected) part = null;
    } catch (error) {
      cause = error instanceof Error ? error.message : String(error);
    }
    signal?.throwIfAborted();
    if (part === null) {
      await store.remove(folder).catch(() => {});
      throw new ModelFetchError(
        `Could not read the copy of ${about.url} in the cache: ${cause}. It is deleted: load the model again.`,
      );
    }
    yield part.subarray(from, to);
  }
}

/** The copy from `begin` on, then the server's bytes, which are added to it. */
function continued(
  store: FileStore,
  folder: string,
  url: URL,
  entry: CacheEntry | null,
  stream: UrlStream,
  begin: number,
  end: number,
  signal: AbortSignal | undefined,
): FileStream {
  const coveredBytes = entry?.coveredBytes ?? 0;
  async function* chunks(): FileStream['chunks'] {
    const about = entry?.about ?? { url: labelOf(url), version: stream.version, sizeBytes: null, isMissing: false };
    const known = { ...about, sizeBytes: about.sizeBytes ?? stream.fileBytes };
    let writer: CacheWriter | null = null;
    let position = coveredBytes;
    try {
      writer = await openCacheWriter(store, folder, entry, known);
      if (entry !== null) yield* diskChunks(store, folder, entry, begin, Math.min(end, coveredBytes), signal);
      for await (const chunk of stream.chunks) {
        await writer?.append(chunk);
        position += chunk.length;
        yield chunk;
      }
      await writer?.finish(isEnd(position) ? position : known.sizeBytes);
    } finally {
      writer?.close();
      discard(stream);
    }
  }
  /** The stream has ended: because the file has? */
  const isEnd = (position: number): boolean => {
    if (stream.fileBytes !== null) return position === stream.fileBytes;
    if (position >= end) return false;
    // Shorter than announced, it was compressed, which only small files are; or it broke off, which a resumption finds out.
    const isShort = !stream.isFirm && stream.length !== null && position - coveredBytes < stream.length;
    return !isShort || position <= SMALL_BYTES;
  };
  return {
    length: stream.length === null ? null : coveredBytes - begin + stream.length,
    isFirm: stream.isFirm,
    chunks: chunks(),
  };
}

const SMALL_BYTES = 2 ** 20;
