/** The worker file (`foretoken/worker`): the engine of `foretoken/engine` behind messages. Importing it anywhere else does nothing. */
import { expose } from 'comlink';
import { checkModel, createEngine } from './engine.ts';
import { createEngineSharing } from './engine_sharing.ts';
import { type EngineApi, serveWorker, type WorkerScope } from './worker_api.ts';

const api: EngineApi = { createEngine, checkModel, joinEngine: createEngineSharing(createEngine) };
// Server-side rendering may import this file as a module; there is nobody to serve then.
if ('DedicatedWorkerGlobalScope' in globalThis) {
  serveWorker(globalThis as unknown as WorkerScope, api, expose);
} else if ('SharedWorkerGlobalScope' in globalThis) {
  addEventListener('connect', (event) => {
    const [port] = (event as MessageEvent).ports as [MessagePort];
    serveWorker(port, api, expose);
    port.start();
  });
}
