/** What `modelCache` tells: plain data. */

/** A file that is kept, or the beginning of one. */
export type CachedFile = {
  /** Without its query. */
  url: string;
  /** On this disk. */
  sizeBytes: number;
  /** Of the whole file; null while the server has not told. */
  totalBytes: number | null;
  isComplete: boolean;
};

export type CacheCheck = {
  files: CachedFile[];
  /** URLs of files that are not what was written, by their SHA-256. */
  damaged: string[];
  /** URLs of files of which the server has another version now. Empty where it does not tell, or is out of reach. */
  outdated: string[];
};

/** Where there is no storage (in Node, in some private windows) the cache is empty. */
export type ModelCache = {
  list(): Promise<CachedFile[]>;
  /** Reads all that is kept of a model, named as in `createEngine`, and asks its server for news. Takes a while. */
  check(target: string): Promise<CacheCheck>;
  /** Deletes what is kept of a model. Resolves to the number of bytes that were freed. */
  delete(target: string): Promise<number>;
  /** Deletes everything. */
  clear(): Promise<number>;
};
