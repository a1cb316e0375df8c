/** The options that name a model: URLs, repository ids, files; and what a model is called where nobody says. */
import { InvalidOptionError } from './errors.ts';
import { expected, type GivenOptions, reading } from './option_values.ts';

/** A location, checked, in a form that can cross to a worker: of files, one for each name. */
export type ParsedLocation = string | Blob | File[] | FileSystemFileHandle | FileSystemDirectoryHandle;

/** `owner/name`, and after an `@` a branch, tag, commit or `refs/pr/1`. */
const REPOSITORY_ID = /^(\w[\w.-]*)\/(\w[\w.-]*)(?:@(\w[\w./-]*))?$/;
/** A relative path to a file looks like an id but for this. */
const FILE_NAME = /\.(gguf|safetensors|json|bin|onnx|pth?|html)$/i;

/**
 * A repository of the Hugging Face hub. Null for a URL or a path: those begin with a dot or a slash, end in a slash, or
 * have not exactly one slash within.
 */
export function parseRepositoryId(target: string): { owner: string; name: string; revision: string } | null {
  const match = REPOSITORY_ID.exec(target);
  if (match === null || FILE_NAME.test(target)) return null;
  const [, owner, name, revision = 'main'] = match as unknown as [string, string, string, string?];
  return { owner, name, revision };
}

export const LOCATION_WORDS = "the URL of a model folder, a Hugging Face repository, or a model's files";
const REMEDY = 'Pass a string (of a URL its `href`), a File, an array of Files, or a file system handle.';

/** The option `key`, or undefined where it is not given. */
export function locationOption(options: GivenOptions, key: string, what = LOCATION_WORDS): ParsedLocation | undefined {
  const value = options.get(key);
  if (value === undefined) return undefined;
  if (typeof value === 'string' && value.trim() !== '') return value;
  return reading(`\`${key}\``, () => {
    if (isHandle(value)) return value;
    if (isBlob(value)) return singleFile(key, value);
    const files = listOf(value);
    if (files === null || !files.every(isFile)) throw expected(key, what, value, REMEDY);
    return modelFiles(key, files);
  });
}

/** True for anything but options of a lookup and what is no model at all. */
export const isFileLocation = (value: unknown): boolean =>
  reading('`draft`', () => isHandle(value) || isBlob(value) || listOf(value) !== null);

// By shape, not by class: files may come from another realm, and Node has no handles.

function isBlob(value: unknown): value is Blob {
  const blob = value as Partial<Blob> | null;
  return typeof blob === 'object' && typeof blob?.stream === 'function' && typeof blob.slice === 'function';
}

const isFile = (value: unknown): value is File => isBlob(value) && typeof (value as Partial<File>).name === 'string';

function isHandle(value: unknown): value is FileSystemFileHandle | FileSystemDirectoryHandle {
  const handle = value as { getFile?: unknown; getFileHandle?: unknown } | null;
  return typeof handle === 'object' && typeof (handle?.getFile ?? handle?.getFileHandle) === 'function';
}

/** An array, or the FileList of an input. */
function listOf(value: unknown): unknown[] | null {
  if (Array.isArray(value)) return [...value];
  const list = value as Partial<FileList> | null;
  const isList = typeof list === 'object' && typeof list?.item === 'function' && typeof list.length === 'number';
  return isList ? Array.from(list as FileList) : null;
}

/** What a GGUF file is surely not called. Others may have any name, and their contents tell. */
const OTHER_KIND = /\.(safetensors|json|bin|onnx|pth?|html|zip)$/i;

function singleFile(key: string, file: Blob): Blob {
  if (!isFile(file) || !OTHER_KIND.test(file.name)) return file;
  throw new InvalidOptionError(
    `Expected \`${key}\` to be a .gguf file or all files of a model's folder, got the file ${named(file.name)} alone. ` +
      "Pass an array of the folder's files.",
  );
}

/** One GGUF file, or those of a folder in the Hugging Face layout. */
function modelFiles(key: string, given: readonly File[]): Blob | File[] {
  const files = filesByName(key, given);
  if (files.length === 0) throw new InvalidOptionError(`Expected \`${key}\` to have at least one file, got none.`);
  if (files.some(({ name }) => name === 'config.json')) return files;
  const gguf = files.filter(({ name }) => /\.gguf$/i.test(name));
  if (gguf.length > 1) {
    throw new InvalidOptionError(
      `Expected \`${key}\` to be the files of one model, got ${gguf.length} models: ${listed(gguf)}. Pass one of these ` +
        'files alone.',
    );
  }
  if (gguf.length === 1) return gguf[0] as File;
  throw new InvalidOptionError(
    `Expected \`${key}\` to have a config.json or a .gguf file, got ${listed(files)}. Pass all files of the model's folder.`,
  );
}

/** Of files with one name, that of the outermost folder: repositories keep other formats in subfolders. */
function filesByName(key: string, files: readonly File[]): File[] {
  const byName = new Map<string, File>();
  for (const file of files) {
    const known = byName.get(file.name);
    if (known !== undefined && depthOf(known) === depthOf(file)) {
      throw new InvalidOptionError(
        `Expected \`${key}\` to be the files of one model folder, got two called ${named(file.name)}. Pass those of one folder.`,
      );
    }
    if (known === undefined || depthOf(file) < depthOf(known)) byName.set(file.name, file);
  }
  return [...byName.values()];
}

/** Only files from a directory picker have a path, and it may be lost on the way to a worker. */
const pathOf = (file: File): string => file.webkitRelativePath || file.name;
const depthOf = (file: File): number => pathOf(file).split('/').length;

/** Names of files come from the user's disk: kept short, and on one line. */
const named = (name: string): string => JSON.stringify(name.slice(0, 120));

export function listed(files: readonly { name: string }[]): string {
  const shown = files.slice(0, 8).map(({ name }) => named(name));
  return shown.join(', ') + (files.length > 8 ? ` and ${files.length - 8} more` : '');
}

/** Name of the folder that the files were chosen from, with a slash. */
export function folderOf(files: readonly File[]): string {
  const path = pathOf(files[0] as File).split('/');
  return path.length > 1 ? `${path[0]}/` : 'files/';
}

/** For people to read: the name of the repository, of the GGUF file, or of the folder. */
export function modelNameOf(location: ParsedLocation): string {
  if (typeof location === 'string') return nameInUrl(location);
  const name = Array.isArray(location) ? folderOf(location).slice(0, -1) : (location as Partial<File>).name;
  return name?.replace(/\.gguf$/i, '') || 'model';
}

function nameInUrl(target: string): string {
  const id = parseRepositoryId(target);
  if (id !== null) return id.name;
  const path = target.replace(/[?#].*$/s, '').replace(/^[a-z][a-z0-9+.-]*:\/\/[^/]*/i, '');
  const folder = path.replace(/\/resolve\/[^/]+\/?$/, '');
  const segment = folder.split('/').findLast((part) => part !== '' && part !== '.' && part !== '..');
  if (segment === undefined) return target;
  try {
    return decodeURIComponent(segment).replace(/\.gguf$/i, '');
  } catch {
    return segment;
  }
}
