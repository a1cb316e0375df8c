/** Weights in several safetensors files, listed by `model.safetensors.index.json`. */
import { ModelFormatError } from '../errors.ts';
import { counted, type FileStream, type OnBytes, type ReadOptions } from './body.ts';
import type { ModelConfig } from './config.ts';
import { readSafetensors, type StoredTensor } from './safetensors.ts';
import { readSafetensorsHead } from './safetensors_head.ts';
import type { ModelSource } from './source.ts';
import type { TensorRows } from './tensor_rows.ts';
import { checkTensor, checkTensorNames, tensorShapes } from './tensors.ts';

export type ShardIndex = {
  /** Of the index itself, for errors. */
  name: string;
  /** Tensor name → file name. */
  fileOf: ReadonlyMap<string, string>;
  /** Sum of the tensors as the index claims it, for progress only. */
  claimedBytes: number | null;
};

const MAX_SHARDS = 1000;
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
  return { name, fileOf, claimedBytes: isSize ? (claimed as number) : null };
}

/** The shards that hold something that the model needs, from their heads. */
export async function shardFiles(
  source: ModelSource,
  { fileOf, name: indexName }: ShardIndex,
  config: ModelConfig,
  signal: AbortSignal | undefined,
): Promise<{ name: string; sizeBytes: number }[]> {
  const { needed, files } = neededFiles(fileOf, indexName, config);
  const result: { name: string; sizeBytes: number }[] = [];
  for (const file of files) {
    const head = await readSafetensorsHead(source, file, { ...(signal && { signal }) });
    const { stored, sizeBytes } = head as NonNullable<typeof head>;
    tensorsIn(file, stored, fileOf, needed, source.url + file);
    result.push({ name: file, sizeBytes });
  }
  return result;
}

function neededFiles(fileOf: ShardIndex['fileOf'], indexName: string, config: ModelConfig) {
  checkTensorNames(config, fileOf, indexName);
  const needed = tensorShapes(config);
  return { needed, files: [...new Set([...needed.keys()].map((name) => fileOf.get(name) as string))].sort() };
}

/** Holds a shard against the index; gives what the model needs of it. */
function tensorsIn(
  file: string,
  stored: ReadonlyMap<string, StoredTensor>,
  fileOf: ShardIndex['fileOf'],
  needed: ReadonlyMap<string, readonly number[]>,
  label: string,
) {
  const fail = (fault: string): never => {
    throw new ModelFormatError(
      `${label}: ${fault}. The files belong to different models, or a download is incomplete: download all of them again.`,
    );
  };
  for (const name of stored.keys()) {
    if (fileOf.get(name) !== file) fail(`tensor ${preview(name)} is not placed there by model.safetensors.index.json`);
  }
  const wanted = [...needed].filter(([name]) => fileOf.get(name) === file);
  for (const [name] of wanted) {
    if (!stored.has(name)) fail(`tensor ${name} is missing, which model.safetensors.index.json places there`);
  }
  return new Map(
    wanted.map(([name, shape]) => [name, checkTensor(name, shape, stored.get(name) as StoredTensor, label)]),
  );
}

/** One shard after another. Files that hold nothing that the model needs are not fetched. */
export async function* readShards(
  source: ModelSource,
  { fileOf, claimedBytes, name: indexName }: ShardIndex,
  config: ModelConfig,
  { signal, onBytes }: Pick<ReadOptions, 'signal' | 'onBytes'>,
): AsyncGenerator<TensorRows, void, void> {
  const { needed, files } = neededFiles(fileOf, indexName, config);
  const progress = onBytes && sumProgress(files.length, claimedBytes, onBytes);
  for (const file of files) {
    const label = source.url + file;
    const stream = (await source.open(file, { ...(signal && { signal }) })) as FileStream;
    const reported = counted(stream, progress && ((loaded, total) => progress(file, loaded, total)));
    yield* readSafetensors(reported, label, (stored) => tensorsIn(file, stored, fileOf, needed, label));
  }
}

/**
 * One progress of many files. Until the length of each is known, the total is what the index claims (or null), and
 * never less than what is known.
 */
function sumProgress(fileCount: number, claimedBytes: number | null, onBytes: OnBytes) {
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
