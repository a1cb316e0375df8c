import { readdirSync, readFileSync } from 'node:fs';
import { readSafetensors, type Tensor, writeSafetensors } from '../../reference/checkpoint.ts';
import type { FolderFiles } from './malformed_folders.ts';

/** A folder of the embedded pair. */
export function readFolder(model: 'stories-3m' | 'stories-650k'): FolderFiles {
  const folder = new URL(`../../../demo/public/models/${model}/`, import.meta.url);
  return new Map(readdirSync(folder).map((file) => [file, new Uint8Array(readFileSync(new URL(file, folder)))]));
}

export const jsonOf = (files: FolderFiles, file: string): Record<string, unknown> =>
  JSON.parse(new TextDecoder().decode(files.get(file)!));

/** The weights of a folder in several files with an index. `place` gives each tensor its file; `extra` adds tensors. */
export function shardFolder(
  files: FolderFiles,
  place: (tensor: string, index: number) => string,
  extra: ReadonlyMap<string, Tensor> = new Map(),
): { files: FolderFiles; index: { metadata: { total_size: number }; weight_map: Record<string, string> } } {
  const tensors = [...readSafetensors(files.get('model.safetensors')!), ...extra];
  const shards = new Map<string, Map<string, Tensor>>();
  const index = { metadata: { total_size: 0 }, weight_map: {} as Record<string, string> };
  tensors.forEach(([name, tensor], i) => {
    const file = place(name, i);
    shards.set(file, (shards.get(file) ?? new Map()).set(name, tensor));
    index.weight_map[name] = file;
    index.metadata.total_size += tensor.data.length;
  });
  const sharded: FolderFiles = new Map(files);
  sharded.delete('model.safetensors');
  for (const [file, part] of shards) sharded.set(file, writeSafetensors(part));
  sharded.set('model.safetensors.index.json', new TextEncoder().encode(JSON.stringify(index)));
  return { files: sharded, index };
}
