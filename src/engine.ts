import { createEngineOn } from './engine_core.ts';
import { InvalidOptionError } from './errors.ts';
import { openGpu } from './gpu/device.ts';
import { createFileCache } from './model/file_cache.ts';
import { browserStore } from './model/file_store.ts';
import { sourceAt } from './model/location.ts';
import { parseEngineOptions } from './options.ts';
import type { Engine, EngineOptions, TokenizerLike } from './types.ts';

/** Options of the engine without a worker. */
export type DirectEngineOptions = EngineOptions & {
  /** Stands in for `navigator.gpu`: in Node, what `create()` of the `webgpu` package returns (keep it in a global). */
  gpu?: unknown;
  /** Used instead of the target folder's `tokenizer.json`, for example a tokenizer of `@huggingface/transformers`. */
  tokenizer?: TokenizerLike;
};

/**
 * Loads a target and a draft model on WebGPU in this thread. `createEngine` of `foretoken` does the same in a worker,
 * which a page wants.
 * @throws a typed error of `foretoken` that says what was expected, what was found and what to do
 */
export async function createEngine(options: DirectEngineOptions): Promise<Engine> {
  const { target, draft, cache, extras, ...rest } = parseEngineOptions(options, ['gpu', 'tokenizer']);
  const { gpu, tokenizer } = extras as Pick<DirectEngineOptions, 'gpu' | 'tokenizer'>;
  if (gpu !== undefined && typeof (gpu as GPU | null)?.requestAdapter !== 'function') {
    throw new InvalidOptionError(
      'Expected `gpu` to be a WebGPU object with `requestAdapter`, such as create([]) of the `webgpu` package.',
    );
  }
  const store = cache === false ? null : browserStore();
  const files = store && createFileCache(store, cache === true);
  const targetSource = sourceAt(target, files);
  const draftSource = draft === null ? null : sourceAt(draft, files);
  rest.signal?.throwIfAborted();
  const reopenGpu = () => openGpu(gpu as GPU | undefined);
  return createEngineOn(await reopenGpu(), targetSource, draftSource, {
    ...rest,
    reopenGpu,
    ...(tokenizer !== undefined && { tokenizer }),
  });
}
