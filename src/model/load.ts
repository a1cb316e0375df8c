import { ModelFormatError, VocabularyMismatchError } from '../errors.ts';
import type { LoadProgress, TokenizerLike } from '../types.ts';
import { applyGenerationConfig, type ModelConfig, parseConfig } from './config.ts';
import { parseSafetensors, type Tensor } from './safetensors.ts';
import type { ModelSource } from './source.ts';
import { checkTensors } from './tensors.ts';
import { createTokenizer, type Tokenizer, wrapTokenizer } from './tokenizer.ts';
import { checkSameVocabulary } from './vocabulary.ts';

/** What the small files of a folder say. */
export type ModelDescription = { url: string; config: ModelConfig; tokenizer: Tokenizer };

/** One model, checked as far as the host can. `tensors` holds exactly the tensors of `tensorShapes(config)`. */
export type ModelFiles = ModelDescription & { tensors: ReadonlyMap<string, Tensor> };

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

const MAX_CONFIG_BYTES = 2 ** 20;
/** The largest known tokenizer.json has 33 MB. */
const MAX_TOKENIZER_BYTES = 2 ** 28;

/** Small files first: nearly every fault shows before the weights are fetched. */
export async function loadModelFiles(
  source: ModelSource,
  options: LoadOptions & { role: 'target' | 'draft' },
): Promise<ModelFiles> {
  const description = await loadDescription(source, options.signal, options.tokenizer);
  return loadWeights(source, description, options.role, options.signal, options.onProgress);
}

/** Both models at once. The first failure aborts the other download; vocabularies are compared before the weights. */
export async function loadPair(
  targetSource: ModelSource,
  draftSource: ModelSource | null,
  options: LoadPairOptions = {},
): Promise<{ target: ModelFiles; draft: ModelFiles | null }> {
  const { signal, onProgress, tokenizer } = options;
  const [target, draft] = await allOrAbort(signal, [
    (linked) => loadDescription(targetSource, linked, tokenizer),
    (linked) => (draftSource ? loadDescription(draftSource, linked) : Promise.resolve(null)),
  ]);
  if (draft) checkPair(target, draft);
  await options.onDescriptions?.(target, draft);
  signal?.throwIfAborted();
  const [targetFiles, draftFiles] = await allOrAbort(signal, [
    (linked) => loadWeights(targetSource, target, 'target', linked, onProgress),
    (linked) =>
      draftSource && draft ? loadWeights(draftSource, draft, 'draft', linked, onProgress) : Promise.resolve(null),
  ]);
  return { target: targetFiles, draft: draftFiles };
}

function checkPair(target: ModelDescription, draft: ModelDescription): void {
  checkSameVocabulary(target, draft);
  // Padding ids have no token, but a draft could propose one that the target's embedding has no row for.
  if (target.config.vocabSize !== draft.config.vocabSize) {
    throw new VocabularyMismatchError(
      `The draft model ${draft.url} has vocab_size ${draft.config.vocabSize}, the target ${target.url} has ` +
        `${target.config.vocabSize}. Expected the same: choose a draft whose embedding has as many rows.`,
    );
  }
}

async function loadDescription(
  source: ModelSource,
  signal: AbortSignal | undefined,
  tokenizerLike?: TokenizerLike,
): Promise<ModelDescription> {
  const named = (file: string) => source.url + file;
  const optional = (file: string) => (linked: AbortSignal) => readJson(source, file, MAX_CONFIG_BYTES, linked, true);
  const [config, tokenizer] = await allOrAbort(signal, [
    async (linked) => {
      const [json, generationJson] = await allOrAbort(linked, [
        (inner) => readJson(source, 'config.json', MAX_CONFIG_BYTES, inner),
        optional('generation_config.json'),
      ]);
      const parsed = parseConfig(json, named('config.json'));
      if (generationJson === undefined) return parsed;
      return applyGenerationConfig(parsed, generationJson, named('generation_config.json'));
    },
    async (linked) => {
      if (tokenizerLike) return null;
      const [json, tokenizerConfig] = await allOrAbort(linked, [
        (inner) => readJson(source, 'tokenizer.json', MAX_TOKENIZER_BYTES, inner),
        optional('tokenizer_config.json'),
      ]);
      return createTokenizer(json, tokenizerConfig ?? null, named('tokenizer.json'));
    },
  ]);
  if (tokenizer && tokenizer.baseVocabSize > config.vocabSize) {
    throw new ModelFormatError(
      `${named('tokenizer.json')} has token ids up to ${tokenizer.baseVocabSize - 1}, expected less than the vocab_size ` +
        `${config.vocabSize} of config.json. The files belong to different models.`,
    );
  }
  return {
    url: source.url,
    config,
    tokenizer: tokenizer ?? wrapTokenizer(tokenizerLike as TokenizerLike, config.vocabSize),
  };
}

async function loadWeights(
  source: ModelSource,
  description: ModelDescription,
  role: 'target' | 'draft',
  signal: AbortSignal | undefined,
  onProgress: ((progress: LoadProgress) => void) | undefined,
): Promise<ModelFiles> {
  const file = 'model.safetensors';
  const bytes = await source.read(file, {
    ...(signal ? { signal } : {}),
    ...(onProgress ? { onBytes: thinProgress(role, onProgress) } : {}),
  });
  const label = source.url + file;
  if (!bytes) throw new ModelFormatError(`${label} is missing. Check that the folder holds it.`);
  const tensors = checkTensors(description.config, parseSafetensors(bytes, label), label);
  return { ...description, tensors };
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

/** Undefined for a missing optional file (null is valid JSON). */
async function readJson(
  source: ModelSource,
  file: string,
  maxBytes: number,
  signal: AbortSignal,
  optional = false,
): Promise<unknown> {
  const bytes = await source.read(file, { signal, maxBytes, optional });
  if (!bytes) {
    if (optional) return undefined;
    throw new ModelFormatError(`${source.url}${file} is missing. Check that the folder holds it.`);
  }
  const broken = (got: string) =>
    new ModelFormatError(
      `${source.url}${file} is not JSON: ${got}. Check the file on the server, or download it again.`,
    );
  if (bytes.length === 0) throw broken('it is empty');
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    throw broken(error instanceof Error ? error.message : String(error));
  }
}

/** Runs all; the first failure aborts the others, whose own rejections nobody hears of, and is thrown. */
async function allOrAbort<T extends readonly unknown[]>(
  signal: AbortSignal | undefined,
  tasks: { [K in keyof T]: (signal: AbortSignal) => Promise<T[K]> },
): Promise<T> {
  signal?.throwIfAborted();
  const failure = new AbortController();
  const linked = signal ? AbortSignal.any([signal, failure.signal]) : failure.signal;
  try {
    return (await Promise.all(tasks.map((task) => task(linked)))) as unknown as T;
  } catch (error) {
    failure.abort(error);
    throw error;
  }
}
