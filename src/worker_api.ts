/**
 * The worker's side of the wire, without the wire's library: `worker.ts` passes comlink's `expose` in.
 *
 * A page says `hello` until it hears `ready`, then sends `open` with a MessagePort. Calls (comlink) and events (plain
 * messages) of that engine share this one port, so their order is kept; there is no port and no proxy per run.
 */

import type { ChatPrompt, PlainChatMessage } from './chat_types.ts';
import type { ModelCheck } from './check_types.ts';
import type { JoinEngine } from './engine_sharing.ts';
import { EngineDisposedError, InvalidOptionError, WorkerError } from './errors.ts';
import type { EngineEventName, EngineEvents } from './event_types.ts';
import type {
  CostReport,
  Engine,
  EngineInfo,
  EngineOptions,
  GenerateOptions,
  GenerateResult,
  LoadProgress,
  Round,
} from './types.ts';

/** Raised with every change to the messages below: a page and a cached worker of another version must not mix. */
export const workerProtocol = 7;

/** Page → worker, outside of any engine. */
export type WorkerRequest = { foretoken: 'hello' } | { foretoken: 'open'; port: MessagePort };
/** Worker → page, outside of any engine. */
export type WorkerReply =
  | { foretoken: 'ready'; protocol: number; hasGpu: boolean }
  | { foretoken: 'error'; error: WireError };

/** What survives of an error; `reviveError` gives it its class back. */
export type WireError = { name: string; message: string; stack?: string };

/** Worker → page, on the port of one engine. */
export type SessionEvent =
  | { event: 'progress'; progress: LoadProgress }
  | { event: 'round'; runId: number; round: Round }
  | { event: 'finish'; runId: number; result: GenerateResult }
  | { event: 'fail'; runId: number; error: WireError }
  | EngineEventMessage;

/** Of `engine.on`: posted while the page listens. */
export type EngineEventMessage = {
  [Name in EngineEventName]: { event: 'engine'; name: Name; data: EngineEvents[Name] };
}[EngineEventName];

/** Options that can cross: neither functions nor signals can. */
export type LoadRequest = Omit<EngineOptions, 'onProgress' | 'signal'>;
export type GenerateRequest = {
  runId: number;
  prompt: string | readonly number[];
  options: Omit<GenerateOptions, 'signal'>;
  /** Set when the signal had been aborted before the call. */
  abortMessage: string | null;
};

/** One engine in the worker, as the page calls it. */
export type WorkerSession = {
  /** Heartbeat. */
  ping(): void;
  /** Holds the Web Lock `name` for as long as this worker lives, which tells the page of its death; false where it cannot. */
  holdLock(name: string): Promise<boolean>;
  /** The page holds the Web Lock `name` for as long as it lives; once it is free, the session is disposed. */
  watchPage(name: string): void;
  check(request: LoadRequest): Promise<ModelCheck>;
  /** `share`: the name under which several pages load one engine; null (the default) for one of this page's own. */
  load(request: LoadRequest, share?: string | null): Promise<EngineInfo>;
  /** Starts a run; its rounds and its end arrive as events. */
  generate(request: GenerateRequest): void;
  abort(runId: number, message: string): void;
  applyTemplate(messages: readonly PlainChatMessage[]): Promise<ChatPrompt>;
  metrics(): Promise<string>;
  /** Begins, or ends, to post the engine's events of this name. */
  listen(name: EngineEventName, isHeard: boolean): void;
  measureCosts(options: { sampleCount?: number }): Promise<CostReport>;
  /** Aborts a load in progress, ends the runs, frees the GPU. */
  dispose(): Promise<void>;
};

/** What `foretoken/engine` gives, and the engines that pages share. */
export type EngineApi = {
  createEngine(options: EngineOptions): Promise<Engine>;
  checkModel(options: EngineOptions): Promise<ModelCheck>;
  joinEngine: JoinEngine;
};

/** What `serveWorker` needs of the global scope of a worker, or of a port to a shared one. */
export type WorkerScope = {
  addEventListener(type: 'message', listener: (event: MessageEvent) => void): void;
  postMessage(message: WorkerReply): void;
};

/** Answers pages: one engine for each port that they open. Garbage is answered by a typed error and changes nothing. */
export function serveWorker(
  scope: WorkerScope,
  api: EngineApi,
  expose: (session: WorkerSession, port: MessagePort) => void,
): void {
  scope.addEventListener('message', ({ data }) => {
    const request = data as Partial<WorkerRequest> | null | undefined;
    if (request?.foretoken === 'hello') {
      scope.postMessage({
        foretoken: 'ready',
        protocol: workerProtocol,
        hasGpu: globalThis.navigator?.gpu !== undefined,
      });
    } else if (request?.foretoken === 'open' && request.port instanceof MessagePort) {
      const { port } = request;
      const session = createWorkerSession(api, (event) => port.postMessage(event));
      // Fires where the browser tells of a page that dropped its engine without `dispose()`. Harmless after one.
      port.addEventListener('close', () => void session.dispose());
      expose(session, port);
    } else {
      const error = new InvalidOptionError(
        `Expected a message of foretoken's page side, got ${describeMessage(data)}. ` +
          'Let `createEngine({ worker })` talk to this worker; messages of your own belong to a worker of your own.',
      );
      scope.postMessage({ foretoken: 'error', error: toWireError(error) });
    }
  });
}

/** One engine's session. `post` must not throw. */
export function createWorkerSession(
  { createEngine, checkModel, joinEngine }: EngineApi,
  post: (event: SessionEvent) => void,
): WorkerSession {
  const loading = new AbortController();
  const pageWait = new AbortController();
  const runs = new Map<number, AbortController>();
  const listening = new Map<EngineEventName, () => void>();
  let engine: Engine | null = null;
  let load: Promise<Engine> | null = null;
  let disposed = false;
  let releaseLock: () => void = () => {};

  const loadedEngine = (): Engine => {
    if (disposed) throw disposedError();
    if (engine === null) throw new WorkerError('Expected a loaded engine, got a call before `load` was answered.');
    return engine;
  };

  /** Never rejects. Rounds go out before the end, because the run yields them first. */
  const pump = async (runId: number, run: ReturnType<Engine['generate']>): Promise<void> => {
    try {
      for await (const round of run) post({ event: 'round', runId, round });
      post({ event: 'finish', runId, result: await run.result });
    } catch (error) {
      post({ event: 'fail', runId, error: toWireError(error) });
    } finally {
      runs.delete(runId);
    }
  };

  const session: WorkerSession = {
    ping() {},

    holdLock(name) {
      const locks: LockManager | undefined = globalThis.navigator?.locks;
      if (locks === undefined) return Promise.resolve(false);
      return new Promise((resolve) => {
        locks
          .request(name, () => {
            resolve(true);
            return new Promise<void>((release) => {
              if (disposed) release();
              releaseLock = release;
            });
          })
          .catch(() => resolve(false)); // an opaque origin has no locks; the heartbeat has to do
      });
    },

    watchPage(name) {
      // Rejects where the wait was ended by `dispose`.
      navigator.locks.request(name, { signal: pageWait.signal }, () => session.dispose()).catch(() => {});
    },

    async check(request) {
      if (disposed) throw disposedError();
      return checkModel({ ...request, signal: loading.signal });
    },

    async load(request, share = null) {
      if (load !== null) throw new WorkerError('Expected one `load` per session, got a second.');
      if (disposed) throw disposedError();
      const onProgress = (progress: LoadProgress): void => post({ event: 'progress', progress });
      const options = { ...request, onProgress, signal: loading.signal };
      load = share === null ? createEngine(options) : joinEngine(share, options);
      const loaded = await load;
      if (disposed) throw disposedError(); // dispose() waits for `load` and frees what it made
      engine = loaded;
      return engine.info;
    },

    generate({ runId, prompt, options, abortMessage }) {
      const abort = new AbortController();
      if (abortMessage !== null) abort.abort(abortReason(abortMessage));
      const run = loadedEngine().generate(prompt, { ...options, signal: abort.signal });
      runs.set(runId, abort);
      void pump(runId, run);
    },

    abort(runId, message) {
      runs.get(runId)?.abort(abortReason(message));
    },

    async applyTemplate(messages) {
      return loadedEngine().chat.applyTemplate(messages);
    },

    async metrics() {
      return loadedEngine().metrics();
    },

    listen(name, isHeard) {
      listening.get(name)?.();
      listening.delete(name);
      if (!isHeard) return;
      const end = loadedEngine().on(name, (data) => post({ event: 'engine', name, data } as EngineEventMessage));
      listening.set(name, end);
    },

    async measureCosts(options) {
      return loadedEngine().measureCosts(options);
    },

    async dispose() {
      if (!disposed) {
        disposed = true;
        releaseLock();
        pageWait.abort();
        for (const end of listening.values()) end();
        loading.abort(disposedError());
      }
      const loaded = await load?.catch(() => null);
      await loaded?.dispose();
      // An engine that other pages share goes on, without what this page asked of it.
      for (const abort of runs.values()) abort.abort(abortReason('The page has closed.'));
    },
  };
  return session;
}

export function toWireError(error: unknown): WireError {
  if (!(error instanceof Error)) return { name: 'Error', message: String(error) };
  const { name, message, stack } = error;
  return stack === undefined ? { name, message } : { name, message, stack };
}

function disposedError(): EngineDisposedError {
  return new EngineDisposedError('Expected a live engine, got a disposed one. Create another with `createEngine`.');
}

function abortReason(message: string): DOMException {
  return new DOMException(message, 'AbortError');
}

function describeMessage(data: unknown): string {
  if (data === null || typeof data !== 'object') return `${typeof data} ${String(data).slice(0, 60)}`;
  return `an object with the keys [${Object.keys(data).slice(0, 8).join(', ')}]`;
}
