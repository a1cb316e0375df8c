import type { LoadProgress, TokenizerLike } from '../types.ts';
import { allOrAbort } from './abort.ts';
import { openFolder } from './folder.ts';
import { openGguf } from './gguf_file.ts';
import type { ModelWeights, OpenedModel } from './opened_model.ts';
import type { ModelSource } from './source.ts';
import { checkSameVocabulary } from './vocabulary.ts';

/** What is known of a model before its weights are read. */
export type ModelDescription = Omit<OpenedModel, 'readTensors'>;

/** One model, checked as far as the host can. `tensors` holds exactly the tensors of `tensorShapes(config)`. */
export type ModelFiles = ModelDescription & ModelWeights;

export type LoadOptions = {
  signal?: AbortSignal;
  onProgress?: (progress: LoadProgress) => void;
  /** Used instead of the target's tokenizer.json. */
  tokenizer?: TokenizerLike;
};

export type LoadPairOptions = LoadOptions & {
  /** Called before any weight is fetched; may throw (device limits). */
  onDescriptions?: (target: ModelDescription, draft: ModelDescription | null) => void | Promise<void>;
};

/** Small files first: nearly every fault shows before the weights are fetched. */
export async function loadModelFiles(
  source: ModelSource,
  options: LoadOptions & { role: 'target' | 'draft' },
): Promise<ModelFiles> {
  const model = await openModel(source, options.role, options.signal, options.tokenizer);
  return loadWeights(model, options.role, options.signal, options.onProgress);
}

/** Both models at once. The first failure aborts the other download; vocabularies are compared before the weights. */
export async function loadPair(
  targetSource: ModelSource,
  draftSource: ModelSource | null,
  options: LoadPairOptions = {},
): Promise<{ target: ModelFiles; draft: ModelFiles | null }> {
  const { signal, onProgress, tokenizer } = options;
  const [target, draft] = await allOrAbort(signal, [
    (linked) => openModel(targetSource, 'target', linked, tokenizer),
    (linked) => (draftSource ? openModel(draftSource, 'draft', linked) : Promise.resolve(null)),
  ]);
  // The padding behind the tokens may differ, as in Qwen2.5's sizes.
  if (draft) checkSameVocabulary(target, draft);
  await options.onDescriptions?.(target, draft);
  signal?.throwIfAborted();
  const [targetFiles, draftFiles] = await allOrAbort(signal, [
    (linked) => loadWeights(target, 'target', linked, onProgress),
    (linked) => (draft ? loadWeights(draft, 'draft', linked, onProgress) : Promise.resolve(null)),
  ]);
  return { target: targetFiles, draft: draftFiles };
}

function openModel(
  source: ModelSource,
  role: 'target' | 'draft',
  signal: AbortSignal | undefined,
  tokenizerLike?: TokenizerLike,
): Promise<OpenedModel> {
  if (source.gguf !== undefined) return openGguf(source, source.gguf, signal, tokenizerLike);
  return openFolder(source, role === 'target', signal, tokenizerLike);
}

async function loadWeights(
  { readTensors, ...description }: OpenedModel,
  role: 'target' | 'draft',
  signal: AbortSignal | undefined,
  onProgress: ((progress: LoadProgress) => void) | undefined,
): Promise<ModelFiles> {
  const weights = await readTensors({
    ...(signal ? { signal } : {}),
    ...(onProgress ? { onBytes: thinProgress(role, onProgress) } : {}),
  });
  return { ...description, ...weights };
}

/** About 200 reports per model instead of one per network chunk: each may become a message between threads. */
function thinProgress(model: 'target' | 'draft', onProgress: (progress: LoadProgress) => void) {
  let reported = -1;
  return (loadedBytes: number, totalBytes: number | null) => {
    const step = totalBytes === null ? 2 ** 20 : totalBytes / 200;
    if (reported >= 0 && loadedBytes !== totalBytes && loadedBytes - reported < step) return;
    reported = loadedBytes;
    onProgress({ model, loadedBytes, totalBytes });
  };
}
