/** The worker file (`foretoken/worker`): the engine of `foretoken/engine` behind messages. Importing it anywhere else does nothing. */
import { expose } from 'comlink';
import { checkModel, createEngine } from './engine.ts';
import { serveWorker, type WorkerScope } from './worker_api.ts';

// Server-side rendering may import this file as a module; there is nobody to serve then.
if ('DedicatedWorkerGlobalScope' in globalThis) {
  serveWorker(globalThis as unknown as WorkerScope, { createEngine, checkModel }, expose);
}
