import type { ParsedLocation } from '../model_options.ts';
import type { FileCache } from './file_cache.ts';
import { fileSource } from './file_source.ts';
import { type ModelSource, urlSource } from './source.ts';

/** A model wherever the caller says that it is. What comes from a server may come from the cache. */
export function sourceAt(location: ParsedLocation, cache: FileCache | null): ModelSource {
  return typeof location === 'string' ? urlSource(location, undefined, cache) : fileSource(location);
}
