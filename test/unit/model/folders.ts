import { readdirSync, readFileSync } from 'node:fs';
import type { FolderFiles } from './malformed_folders.ts';

/** A folder of the embedded pair. */
export function readFolder(model: 'stories-3m' | 'stories-650k'): FolderFiles {
  const folder = new URL(`../../../demo/public/models/${model}/`, import.meta.url);
  return new Map(readdirSync(folder).map((file) => [file, new Uint8Array(readFileSync(new URL(file, folder)))]));
}

export const jsonOf = (files: FolderFiles, file: string): Record<string, unknown> =>
  JSON.parse(new TextDecoder().decode(files.get(file)!));
