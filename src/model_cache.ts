/** What is kept of models on this device: for pages, without an engine. */
import { browserStore } from './model/file_store.ts';
import { createModelCache } from './model/model_cache.ts';
import type { ModelCache } from './types.ts';

export const modelCache: ModelCache = createModelCache(browserStore);
