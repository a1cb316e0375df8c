import type { LoadProgress, TokenizerLike } from '../types.ts';
import { allOrAbort } from './abort.ts';
import type { OnBytes } from './body.ts';
import { openFolder } from './folder.ts';
import { openGguf } from './gguf_file.ts';
import type { OpenedModel } from './opened_model.ts';
import type { ModelSource } from './source.ts';
import type { TensorRows } from './tensor_rows.ts';
import { checkSameVocabulary } from './vocabulary.ts';

export type Role = 'target' | 'draft';

export type OpenOptions = {
  signal?: AbortSignal;
  /** Used instead of the target's tokenizer.json. */
  tokenizer?: TokenizerLike;
};

/** Both models, all but their weights: nearly every fault shows before those are fetched. */
export async function openPair(
  targetSource: ModelSource,
  draftSource: ModelSource | null,
  { signal, tokenizer }: OpenOptions = {},
): Promise<{ target: OpenedModel; draft: OpenedModel | null }> {
  const [target, draft] = await allOrAbort(signal, [
    (linked) => openModel(targetSource, 'target', { signal: linked, ...(tokenizer && { tokenizer }) }),
    (linked) => (draftSource ? openModel(draftSource, 'draft', { signal: linked }) : Promise.resolve(null)),
  ]);
  // The padding behind the tokens may differ, as in Qwen2.5's sizes.
  if (draft) checkSameVocabulary(target, draft);
  return { target, draft };
}

export function openModel(
  source: ModelSource,
  role: Role,
  { signal, tokenizer }: OpenOptions = {},
): Promise<OpenedModel> {
  if (source.gguf !== undefined) return openGguf(source, source.gguf, signal, tokenizer);
  return openFolder(source, role === 'target', signal, tokenizer);
}

/** The weights of an opened model, with progress for people to see. */
export function readWeights(
  { readTensors }: OpenedModel,
  role: Role,
  { signal, onProgress }: { signal?: AbortSignal; onProgress?: (progress: LoadProgress) => void } = {},
): AsyncGenerator<TensorRows, void, void> {
  return readTensors({
    ...(signal && { signal }),
    ...(onProgress && { onBytes: thinProgress(role, onProgress) }),
  });
}

/** About 200 reports per model instead of one per network chunk: each may become a message between threads. */
function thinProgress(model: Role, onProgress: (progress: LoadProgress) => void): OnBytes {
  let reported = -1;
  return (loadedBytes, totalBytes) => {
    const step = totalBytes === null ? 2 ** 20 : totalBytes / 200;
    if (reported >= 0 && loadedBytes !== totalBytes && loadedBytes - reported < step) return;
    reported = loadedBytes;
    onProgress({ model, loadedBytes, totalBytes });
  };
}
