/** A model in files of the user: chosen, dropped, or kept in the origin's private file system. */
import { ModelFetchError } from '../errors.ts';
import { folderOf, listed, type ParsedLocation } from '../model_options.ts';
import { streamBody } from './body.ts';
import type { ModelSource } from './source.ts';

export type FileLocation = Exclude<ParsedLocation, string>;

/** Where the files are: `find` gives null for one that is not there, and throws where it cannot be read. */
type Place = { url: string; gguf?: string; find(name: string): Promise<Blob | null>; contents: string };

export function fileSource(location: FileLocation): ModelSource {
  const { url, gguf, find, contents } = placeOf(location);
  return {
    url,
    ...(gguf === undefined ? {} : { gguf }),
    async open(name, options) {
      const { optional, range, signal } = options;
      signal?.throwIfAborted();
      const failure = (cause: string) =>
        new ModelFetchError(
          `Could not read ${url}${name}: ${cause}. The file may have been changed, moved or deleted since it was chosen: choose it again.`,
        );
      let file: Blob | null;
      try {
        file = await find(name);
      } catch (error) {
        throw failure(error instanceof Error ? error.message : String(error));
      }
      if (file === null) {
        if (optional) return null;
        throw new ModelFetchError(
          `Expected ${contents} to include ${name}. Pass all files of the model's folder, or a .gguf file.`,
        );
      }
      const part = range === undefined ? file : file.slice(range.begin, range.end);
      const body = { stream: part.stream(), length: part.size, isFirm: true, skip: 0, take: Number.POSITIVE_INFINITY };
      return streamBody({ ...body, failure }, url + name, options);
    },
  };
}

function placeOf(location: FileLocation): Place {
  if (Array.isArray(location)) {
    const files = new Map(location.map((file) => [file.name, file]));
    return {
      url: folderOf(location),
      find: async (name) => files.get(name) ?? null,
      contents: `the given files (${listed(location)})`,
    };
  }
  if ('getFileHandle' in location) {
    return {
      url: `${location.name || 'files'}/`,
      find: (name) => findIn(location, name),
      contents: 'the given folder',
    };
  }
  const gguf = (location as Partial<File>).name || 'model.gguf';
  const find = async () => ('getFile' in location ? location.getFile() : location);
  return { url: '', gguf, find, contents: 'the given file' };
}

async function findIn(folder: FileSystemDirectoryHandle, name: string): Promise<File | null> {
  try {
    return await (await folder.getFileHandle(name)).getFile();
  } catch (error) {
    if ((error as Error).name === 'NotFoundError') return null;
    throw error;
  }
}
