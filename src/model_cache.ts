/** What is kept of models on this device: for pages, without an engine. */

import type { ModelCache } from './cache_types.ts';
import { browserStore } from './model/file_store.ts';
import { createModelCache } from './model/model_cache.ts';

export const modelCache: ModelCache = createModelCache(browserStore);
