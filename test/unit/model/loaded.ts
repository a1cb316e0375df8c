/** Models loaded into memory, the way the engine loads them onto the GPU. */
import { allOrAbort } from '../../../src/model/abort.ts';
import type { WeightDtype } from '../../../src/model/gguf_blocks.ts';
import { openModel, openPair, type Role, readWeights } from '../../../src/model/load.ts';
import type { OpenedModel } from '../../../src/model/opened_model.ts';
import { parseSafetensorsHeader, type StoredTensor, safetensorsHeaderBytes } from '../../../src/model/safetensors.ts';
import type { ModelSource } from '../../../src/model/source.ts';
import type { TensorRows } from '../../../src/model/tensor_rows.ts';
import type { LoadProgress, TokenizerLike } from '../../../src/types.ts';

export type LoadedTensor = { dtype: WeightDtype; shape: readonly number[]; data: Uint8Array };
export type LoadedModel = OpenedModel & { tensors: Map<string, LoadedTensor> };
type LoadOptions = {
  signal?: AbortSignal;
  onProgress?: (progress: LoadProgress) => void;
  tokenizer?: TokenizerLike;
};

/** Joins the slices; each row must come once, in order. */
export async function collectTensors(rows: AsyncIterable<TensorRows>): Promise<Map<string, LoadedTensor>> {
  const tensors = new Map<string, LoadedTensor & { rows: number }>();
  for await (const { name, dtype, shape, firstRow, rowCount, data } of rows) {
    const rowBytes = data.length / rowCount;
    const bytes = new Uint8Array(rowBytes * (shape[0] as number));
    const tensor = tensors.get(name) ?? { dtype, shape, data: bytes, rows: 0 };
    if (firstRow !== tensor.rows) throw new Error(`expected row ${tensor.rows} of ${name}, got ${firstRow}`);
    tensor.data.set(data, firstRow * rowBytes);
    tensors.set(name, { ...tensor, rows: firstRow + rowCount });
  }
  for (const [name, { rows, shape }] of tensors) {
    if (rows !== shape[0]) throw new Error(`expected ${shape[0]} rows of ${name}, got ${rows}`);
  }
  return tensors;
}

const load = async (model: OpenedModel, role: Role, options: LoadOptions): Promise<LoadedModel> => ({
  ...model,
  tensors: await collectTensors(readWeights(model, role, options)),
});

export async function loadModelFiles(
  source: ModelSource,
  { role, ...options }: LoadOptions & { role: Role },
): Promise<LoadedModel> {
  return load(await openModel(source, role, options), role, options);
}

export async function loadPair(
  targetSource: ModelSource,
  draftSource: ModelSource | null,
  options: LoadOptions = {},
): Promise<{ target: LoadedModel; draft: LoadedModel | null }> {
  const { target, draft } = await openPair(targetSource, draftSource, options);
  const [loadedTarget, loadedDraft] = await allOrAbort(options.signal, [
    (signal) => load(target, 'target', { ...options, signal }),
    (signal) => (draft ? load(draft, 'draft', { ...options, signal }) : Promise.resolve(null)),
  ]);
  return { target: loadedTarget, draft: loadedDraft };
}

/** The head of a safetensors file whose size is known, and views of its tensors. */
export function parseSafetensors(
  file: Uint8Array,
  name: string,
): ReadonlyMap<string, StoredTensor & { data: Uint8Array }> {
  const begin = 8 + safetensorsHeaderBytes(file.subarray(0, 8), file.length, name);
  const stored = parseSafetensorsHeader(file.subarray(8, begin), begin, file.length, name);
  return new Map(
    [...stored].map(([key, tensor]) => [key, { ...tensor, data: file.subarray(tensor.begin, tensor.end) }]),
  );
}
