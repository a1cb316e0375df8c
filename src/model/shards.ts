/** Weights in several safetensors files, listed by `model.safetensors.index.json`. */
import { ModelFormatError } from '../errors.ts';
import { allOrAbort } from './abort.ts';
import { parseSafetensors, releaseRest, type StoredTensor } from './safetensors.ts';
import type { ModelSource, ReadOptions } from './source.ts';

export type ShardIndex = {
  /** Tensor name → file name. */
  fileOf: ReadonlyMap<string, string>;
  /** Sum of the tensors as the index claims it, for progress only. */
  claimedBytes: number | null;
};

const MAX_SHARDS = 1000;
/** Shards being fetched at a time. */
const PARALLEL_READS = 2;
/** A plain name in the same folder: nothing that a URL could read as another folder, host or query. */
const FILE_NAME = /^\w[\w.-]{0,200}\.safetensors$/;

/** The index is untrusted: it may only name files beside itself. `name` is for errors. */
export function parseShardIndex(json: unknown, name: string): ShardIndex {
  const fail = (fault: string): never => {
    throw new ModelFormatError(`${name} is not a valid index of shards: ${fault}. Download or convert it again.`);
  };
  if (!isRecord(json) || !isRecord(json.weight_map)) return fail('expected a JSON object with a weight_map');
  const fileOf = new Map<string, string>();
  for (const [tensor, file] of Object.entries(json.weight_map)) {
    if (typeof file !== 'string' || !FILE_NAME.test(file)) {
      fail(
        `it places tensor ${preview(tensor)} in ${preview(file)}, expected the name of a .safetensors file in the same folder`,
      );
    }
    fileOf.set(tensor, file as string);
  }
  const count = new Set(fileOf.values()).size;
  if (count > MAX_SHARDS) fail(`it names ${count} files, expected at most ${MAX_SHARDS}`);
  const claimed = isRecord(json.metadata) ? json.metadata.total_size : null;
  const isSize = Number.isSafeInteger(claimed) && (claimed as number) >= 0;
  return { fileOf, claimedBytes: isSize ? (claimed as number) : null };
}

/** The `needed` tensors, all of which the index must list. Files that hold none of them are not fetched. */
export async function readShards(
  source: ModelSource,
  { fileOf, claimedBytes }: ShardIndex,
  needed: ReadonlySet<string>,
  { signal, onBytes }: Pick<ReadOptions, 'signal' | 'onBytes'>,
): Promise<ReadonlyMap<string, StoredTensor>> {
  const files = [...new Set([...needed].map((name) => fileOf.get(name) as string))].sort();
  const progress = onBytes && sumProgress(files.length, claimedBytes, onBytes);
  const tensors = new Map<string, StoredTensor>();

  const readShard = async (file: string, linked: AbortSignal): Promise<void> => {
    const fail = (fault: string): never => {
      throw new ModelFormatError(
        `${source.url}${file}: ${fault}. The files belong to different models, or a download is incomplete: download ` +
          'all of them again.',
      );
    };
    const bytes = (await source.read(file, {
      signal: linked,
      ...(progress && { onBytes: (loaded, total) => progress(file, loaded, total) }),
    })) as Uint8Array;
    const stored = parseSafetensors(bytes, source.url + file);
    for (const name of stored.keys()) {
      if (fileOf.get(name) !== file)
        fail(`tensor ${preview(name)} is not placed there by model.safetensors.index.json`);
    }
    const wanted = new Map<string, StoredTensor>();
    for (const name of needed) {
      if (fileOf.get(name) !== file) continue;
      const tensor = stored.get(name);
      wanted.set(name, tensor ?? fail(`tensor ${name} is missing, which model.safetensors.index.json places there`));
    }
    for (const [name, tensor] of releaseRest(wanted, bytes.length)) tensors.set(name, tensor);
  };

  const waiting = [...files];
  const reader = async (linked: AbortSignal): Promise<void> => {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) await readShard(file, linked);
  };
  await allOrAbort(
    signal,
    Array.from({ length: Math.min(PARALLEL_READS, files.length) }, () => reader),
  );
  return tensors;
}

/**
 * One progress of many files. Until the length of each is known, the total is what the index claims (or null), and
 * never less than what is known.
 */
function sumProgress(fileCount: number, claimedBytes: number | null, onBytes: NonNullable<ReadOptions['onBytes']>) {
  const loadedOf = new Map<string, number>();
  const totalOf = new Map<string, number>();
  const sum = (values: Iterable<number>) => [...values].reduce((total, value) => total + value, 0);
  return (file: string, loadedBytes: number, totalBytes: number | null): void => {
    loadedOf.set(file, loadedBytes);
    if (totalBytes !== null) totalOf.set(file, totalBytes);
    const loaded = sum(loadedOf.values());
    const known = sum(totalOf.values());
    // With files still unknown there is more to come: equal numbers would say that it is over.
    const estimate = claimedBytes === null ? null : Math.max(claimedBytes, known, loaded + 1);
    onBytes(loaded, totalOf.size === fileCount && known >= loaded ? known : estimate);
  };
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const preview = (value: unknown) => (JSON.stringify(value) ?? 'nothing').slice(0, 120);
