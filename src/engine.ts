import { checkPair } from './check_model.ts';
import type { ModelCheck } from './check_types.ts';
import { createEngineOn } from './engine_core.ts';
import { InvalidOptionError } from './errors.ts';
import { findAdapter, openGpu } from './gpu/device.ts';
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
  const { target, draft, gpu, ...rest } = readSources(options, 'createEngine()');
  const reopenGpu = () => openGpu(gpu);
  return createEngineOn(await reopenGpu(), target, draft, { ...rest, reopenGpu });
}

/**
 * Says what a pair needs and whether this device has it, without downloading weights: it reads config, tokenizer, and the
 * heads of the weight files. What `createEngine` would refuse is listed in `problems`.
 * @throws as `createEngine` does where files cannot be fetched, are malformed, or are of no supported model
 */
export async function checkModel(options: DirectEngineOptions): Promise<ModelCheck> {
  const { target, draft, gpu, ...rest } = readSources(options, 'checkModel()');
  const adapter = await findAdapter(gpu).catch((error: Error) => error);
  return checkPair(adapter, target, draft, rest);
}

function readSources(options: DirectEngineOptions, call: 'createEngine()' | 'checkModel()') {
  const { target, draft, cache, extras, ...rest } = parseEngineOptions(options, ['gpu', 'tokenizer'], call);
  const { gpu, tokenizer } = extras as Pick<DirectEngineOptions, 'gpu' | 'tokenizer'>;
  if (gpu !== undefined && typeof (gpu as GPU | null)?.requestAdapter !== 'function') {
    throw new InvalidOptionError(
      'Expected `gpu` to be a WebGPU object with `requestAdapter`, such as create([]) of the `webgpu` package.',
    );
  }
  const store = cache === false ? null : browserStore();
  const files = store && createFileCache(store, cache === true);
  const sources = { target: sourceAt(target, files), draft: draft === null ? null : sourceAt(draft, files) };
  rest.signal?.throwIfAborted();
  return { ...rest, ...sources, gpu: gpu as GPU | undefined, ...(tokenizer !== undefined && { tokenizer }) };
}
