/** What the cache has of one file: parts of a fixed size from its start on, and what the server said of it. */
import type { FileVersion } from './fetch_file.ts';
import type { FileStore } from './file_store.ts';

/** All parts but the last. A download that breaks off loses less than one. */
export const PART_BYTES = 4 * 2 ** 20;
const ABOUT = 'about.json';

export type CacheEntry = {
  about: {
    /** Without its query. */
    url: string;
    version: FileVersion;
    /** Of the whole file; null while unknown. */
    sizeBytes: number | null;
    /** The server has no such file. */
    isMissing: boolean;
  };
  /** Contiguous from the start of the file; all but the last of PART_BYTES. */
  parts: { name: string; bytes: number; sha256: string }[];
  /** Sum of the parts. */
  coveredBytes: number;
};

/** One folder per file. The query, which tells files apart, may hold a secret: it is not kept in the clear. */
export async function folderOf(url: URL): Promise<string> {
  return sha256(new TextEncoder().encode(url.href));
}

export async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return [...digest].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

export const partName = (index: number, digest: string) => `${String(index).padStart(6, '0')}-${digest}`;

/** Null where there is nothing, or nothing that can be used. */
export async function readEntry(store: FileStore, folder: string): Promise<CacheEntry | null> {
  const files = await store.files(folder);
  if (files === null || !files.has(ABOUT)) return null;
  let about: unknown;
  try {
    about = JSON.parse(await (await store.read(folder, ABOUT)).text());
  } catch {
    return null;
  }
  if (!isAbout(about)) return null;
  const byIndex = new Map<number, CacheEntry['parts'][number]>();
  for (const [name, bytes] of files) {
    const [, index, digest] = /^(\d{6})-([0-9a-f]{64})$/.exec(name) ?? [];
    if (index === undefined || digest === undefined || bytes > PART_BYTES) continue;
    // A short part is replaced by a longer one.
    if (bytes > (byIndex.get(Number(index))?.bytes ?? 0)) byIndex.set(Number(index), { name, bytes, sha256: digest });
  }
  const parts: CacheEntry['parts'] = [];
  for (let part = byIndex.get(0); part !== undefined; part = byIndex.get(parts.length)) {
    parts.push(part);
    if (part.bytes < PART_BYTES) break;
  }
  return { about, parts, coveredBytes: parts.reduce((sum, { bytes }) => sum + bytes, 0) };
}

export async function writeAbout(store: FileStore, folder: string, about: CacheEntry['about']): Promise<void> {
  await store.write(folder, ABOUT, new TextEncoder().encode(JSON.stringify(about)));
}

export const isComplete = ({ about: { sizeBytes }, coveredBytes }: CacheEntry) => coveredBytes === sizeBytes;

function isAbout(value: unknown): value is CacheEntry['about'] {
  const { url, version, sizeBytes, isMissing } = (value ?? {}) as Partial<CacheEntry['about']>;
  const isTextOrNull = (text: unknown) => text === null || typeof text === 'string';
  return (
    typeof url === 'string' &&
    typeof version === 'object' &&
    isTextOrNull(version?.etag) &&
    isTextOrNull(version?.lastModified) &&
    (sizeBytes === null || Number.isSafeInteger(sizeBytes)) &&
    typeof isMissing === 'boolean'
  );
}
