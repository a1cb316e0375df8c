import { collect, counted, type FileStream, type OpenOptions, type ReadOptions } from './body.ts';
import { openUrl } from './fetch_file.ts';
import type { FileCache } from './file_cache.ts';
import { labelOf, parseModelUrl } from './model_url.ts';

/** Where the files of one model come from. */
export type ModelSource = {
  /** Folder URL, ending in a slash and without its query (which may hold a secret): `url + file` names a file in errors. */
  url: string;
  /** Name of the only file, where the model is one GGUF file. */
  gguf?: string;
  /** The bytes of a file as they come. Null only for a missing optional file. */
  open(file: string, options: OpenOptions): Promise<FileStream | null>;
};

/** All of a file that fits into memory. Null only for a missing optional file. */
export async function readFile(
  source: ModelSource,
  file: string,
  { onBytes, ...options }: ReadOptions,
): Promise<Uint8Array | null> {
  const stream = await source.open(file, options);
  return stream && collect(counted(stream, onBytes), source.url + file);
}

/**
 * A model on a server: a hub repository id, or the URL of a folder in the Hugging Face layout or of a GGUF file. A
 * relative URL is taken from `baseUrl`, by default the page. Files that the cache has come from there.
 */
export function urlSource(target: string, baseUrl?: string, cache: FileCache | null = null): ModelSource {
  const url = parseModelUrl(target, baseUrl);
  const [, folderPath, gguf] = /^(.*\/)([^/]*)$/.exec(url.pathname) as unknown as [string, string, string];
  const fileUrl = (file: string): URL => {
    const result = new URL(url);
    result.pathname = folderPath + file;
    return result;
  };
  return {
    url: labelOf(fileUrl('')),
    ...(gguf === '' ? {} : { gguf }),
    open: (file, options) => (cache?.open ?? openUrl)(fileUrl(file), file, options),
  };
}
