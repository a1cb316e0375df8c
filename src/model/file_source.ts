import { InvalidOptionError, ModelFetchError } from '../errors.ts';
import { streamBody } from './body.ts';
import type { ModelSource } from './source.ts';

/** A model in files that the user chose or dropped: one GGUF file, or those of a folder in the Hugging Face layout. */
export function fileSource(given: Blob | readonly File[]): ModelSource {
  const files: ReadonlyMap<string, Blob> =
    'length' in given ? filesByName(given) : new Map([[(given as Partial<File>).name || 'model.gguf', given]]);
  const names = [...files.keys()];
  const gguf = names.filter((name) => !('length' in given) || /\.gguf$/i.test(name));
  const isFolder = gguf.length === 0 || files.has('config.json');
  if (!isFolder && gguf.length > 1) {
    throw new InvalidOptionError(
      `Expected the files of one model, got ${gguf.length} of them: ${listed(gguf)}. Pass one of these files alone.`,
    );
  }
  const url = isFolder ? folderName(given as readonly File[]) : '';
  return {
    url,
    ...(isFolder ? {} : { gguf: gguf[0] as string }),
    async open(name, options) {
      const { optional, range, signal } = options;
      signal?.throwIfAborted();
      const file = files.get(name);
      if (file === undefined) {
        if (optional) return null;
        throw new ModelFetchError(
          `Expected the given files to include ${name}, got ${listed(names)}. Pass all files of the model's folder, or a ` +
            '.gguf file.',
        );
      }
      const part = range === undefined ? file : file.slice(range.begin, range.end);
      const failure = (cause: string) =>
        new ModelFetchError(
          `Could not read ${url}${name}: ${cause}. The file may have been changed or moved since it was chosen: choose it again.`,
        );
      const body = { stream: part.stream(), length: part.size, isFirm: true, skip: 0, take: Number.POSITIVE_INFINITY };
      return streamBody({ ...body, failure }, url + name, options);
    },
  };
}

/** Of files with one name, that of the outermost folder: repositories keep other formats in subfolders. */
function filesByName(files: readonly File[]): Map<string, File> {
  const byName = new Map<string, File>();
  for (const file of files) {
    const known = byName.get(file.name);
    if (known !== undefined && depthOf(known) === depthOf(file)) {
      throw new InvalidOptionError(
        `Expected the files of one model folder, got two called ${JSON.stringify(file.name.slice(0, 120))}. Pass those of ` +
          'one folder.',
      );
    }
    if (known === undefined || depthOf(file) < depthOf(known)) byName.set(file.name, file);
  }
  return byName;
}

/** Only files from a directory picker have a path. */
const pathOf = (file: File): string => (file as Partial<File>).webkitRelativePath || file.name;
const depthOf = (file: File): number => pathOf(file).split('/').length;

function folderName(files: readonly File[]): string {
  const path = pathOf(files[0] as File).split('/');
  return path.length > 1 ? `${path[0]}/` : 'files/';
}

function listed(names: readonly string[]): string {
  const shown = names.slice(0, 8).map((name) => JSON.stringify(name.slice(0, 120)));
  return shown.join(', ') + (names.length > 8 ? ` and ${names.length - 8} more` : '');
}
