/** The page's hold on one worker: handshake, heartbeat, death, and the calls and runs that are pending on it. */
import { EngineDisposedError, reviveError, WorkerError } from './errors.ts';
import type { RunControl } from './run.ts';
import type { LoadProgress } from './types.ts';
import {
  type EngineEventMessage,
  type SessionEvent,
  type WireError,
  type WorkerReply,
  type WorkerRequest,
  type WorkerSession,
  workerProtocol,
} from './worker_api.ts';

const tickMs = 1000;
/** A worker that answers nothing for so long after its start is not ours, or never started. */
const readyTimeoutMs = 10_000;
/** Generous: unpacking weights may keep a slow device's worker busy. Where there are Web Locks, they tell of a death at once. */
const silenceTimeoutMs = 60_000;
/** How long `dispose` waits for the worker to free the GPU before it is terminated all the same. */
const disposeTimeoutMs = 2000;

const help = 'See docs/troubleshooting.md#workererror.';

export type StartedWorker = {
  /** Of a shared worker, this page's end of it: `terminate` closes that. */
  worker: Pick<Worker, 'postMessage' | 'addEventListener' | 'removeEventListener' | 'terminate'>;
  /** We started it, so we terminate it. */
  owned: boolean;
  /** Serves other pages too, and outlives this one. */
  isShared: boolean;
  /** What the worker is, in words, with its URL where that is known. */
  label: string;
};

/** `WorkerSession` as seen through comlink. */
export type RemoteSession = {
  [Name in keyof WorkerSession]: (
    ...args: Parameters<WorkerSession[Name]>
  ) => Promise<Awaited<ReturnType<WorkerSession[Name]>>>;
};

export type Connection = {
  /** Resolves when the worker has answered, with whether it has WebGPU. */
  readonly ready: Promise<{ hasGpu: boolean }>;
  onProgress: ((progress: LoadProgress) => void) | null;
  onEngineEvent: ((message: EngineEventMessage) => void) | null;
  /** The answer of the worker, or the error that ended the connection, whichever comes first. */
  call<T>(invoke: (session: RemoteSession) => Promise<T>): Promise<T>;
  /** Routes the events of a new run to `control`. Null if the connection has ended; the run has failed then. */
  addRun(control: RunControl): number | null;
  abortRun(runId: number, message: string): void;
  failRun(runId: number, error: unknown): void;
  /** Rejects whatever is pending, and every later call, with `error`; then lets go of the worker. Never rejects. */
  close(error: unknown): Promise<void>;
};

export function connect(
  { worker, owned, isShared, label }: StartedWorker,
  wrapPort: (port: MessagePort) => RemoteSession,
): Connection {
  const { port1: port, port2: workerPort } = new MessageChannel();
  const session = wrapPort(port);
  const pending = new Set<(error: unknown) => void>();
  const runs = new Map<number, RunControl>();
  const lockWait = new AbortController();
  let lastRunId = 0;
  let isReady = false;
  let end: { error: unknown } | null = null;
  let silentMs = 0;
  let ticker: ReturnType<typeof setInterval> | null = null;
  let resolveReady: (answer: { hasGpu: boolean }) => void = () => {};
  let releasePageLock: () => void = () => {};

  const tell = (request: WorkerRequest, transfer: Transferable[] = []): void => worker.postMessage(request, transfer);

  /**
   * Silence is counted in ticks, not by the clock: while a page is frozen or throttled the worker is not blamed for it.
   * A `hello` is repeated, because a worker that imports us late has lost the first one.
   */
  const tick = (): void => {
    silentMs += tickMs;
    if (silentMs >= (isReady ? silenceTimeoutMs : readyTimeoutMs)) void connection.close(silenceError(label, isReady));
    else if (isReady) session.ping().catch(() => {});
    else tell({ foretoken: 'hello' });
  };

  /** The heartbeat beats only while somebody waits. */
  const updateTicker = (): void => {
    const wanted = end === null && pending.size + runs.size > 0;
    if (wanted === (ticker !== null)) return;
    silentMs = 0;
    if (ticker !== null) clearInterval(ticker);
    ticker = wanted ? setInterval(tick, tickMs) : null;
  };

  const untilEnd = <T>(promise: Promise<T>): Promise<T> =>
    new Promise((resolve, reject) => {
      pending.add(reject);
      updateTicker();
      promise
        .then(resolve, (error) => reject(reviveError(error)))
        .finally(() => {
          pending.delete(reject);
          updateTicker();
        });
    });

  /** Takes a run out of the books, for its end. */
  const takeRun = (runId: number): RunControl | undefined => {
    const control = runs.get(runId);
    runs.delete(runId);
    updateTicker();
    return control;
  };

  const onReply = ({ data }: MessageEvent<Partial<WorkerReply> | null>): void => {
    if (data?.foretoken !== 'ready' || isReady) return;
    if (data.protocol !== workerProtocol) {
      void connection.close(protocolError(label, data.protocol));
      return;
    }
    isReady = true;
    silentMs = 0;
    tell({ foretoken: 'open', port: workerPort }, [workerPort]);
    void watchLock();
    const hasGpu = data.hasGpu === true;
    void (isShared ? holdPageLock() : Promise.resolve()).then(() => resolveReady({ hasGpu }));
  };

  /** The worker holds a lock while it lives, and we queue for it: it is granted to us when the worker is gone. */
  const watchLock = async (): Promise<void> => {
    const name = newLockName();
    try {
      if (!(await session.holdLock(name)) || end !== null) return;
      await navigator.locks.request(name, { signal: lockWait.signal }, () => connection.close(goneError(label)));
    } catch {
      // Not allowed here, or the wait was ended by `close`. The heartbeat has to do.
    }
  };

  /** And the other way round, for a worker that outlives this page. Resolves when the worker knows, or cannot. */
  const holdPageLock = (): Promise<void> =>
    new Promise((resolve) => {
      const name = newLockName();
      const hold = (): Promise<void> => {
        session.watchPage(name).then(resolve, () => resolve());
        return new Promise((release) => {
          if (end !== null) release();
          releasePageLock = release;
        });
      };
      const locks: LockManager | undefined = globalThis.navigator?.locks;
      if (locks === undefined) resolve();
      else locks.request(name, hold).catch(() => resolve());
    });

  const onEvent = ({ data }: MessageEvent<SessionEvent | null>): void => {
    silentMs = 0; // whatever it is, somebody lives
    if (end !== null) return;
    switch (data?.event) {
      case 'progress':
        try {
          connection.onProgress?.(data.progress);
        } catch (error) {
          void connection.close(error); // the caller's own callback failed: so does the caller's load
        }
        return;
      case 'round':
        runs.get(data.runId)?.push(data.round);
        return;
      case 'finish':
        takeRun(data.runId)?.finish(data.result);
        return;
      case 'fail':
        takeRun(data.runId)?.fail(fromWireError(data.error));
        return;
      case 'engine':
        connection.onEngineEvent?.(data);
    }
  };

  const onWorkerError = (event: Event): void => void connection.close(crashError(label, isReady, event as ErrorEvent));

  /**
   * Ends our own worker at once, except on `dispose`, when it may free the GPU first. A worker of the caller's is told
   * to free it, a shared one learns it from the page's lock. A dead one is not waited for.
   */
  const letGo = async (reason: unknown): Promise<void> => {
    if (isReady && (!owned || reason instanceof EngineDisposedError)) {
      let timeout: ReturnType<typeof setTimeout> | undefined;
      const disposed = session.dispose().catch(() => {});
      const waited = new Promise((resolve) => {
        timeout = setTimeout(resolve, reason instanceof WorkerError ? 0 : disposeTimeoutMs);
      });
      await Promise.race([disposed, waited]);
      clearTimeout(timeout);
    }
    releasePageLock();
    port.close();
    if (owned) worker.terminate();
  };

  const connection: Connection = {
    ready: untilEnd(
      new Promise((resolve) => {
        resolveReady = resolve;
      }),
    ),
    onProgress: null,
    onEngineEvent: null,

    call(invoke) {
      return end === null ? untilEnd(invoke(session)) : Promise.reject(end.error);
    },

    addRun(control) {
      if (end !== null) {
        control.fail(end.error);
        return null;
      }
      lastRunId += 1;
      runs.set(lastRunId, control);
      updateTicker();
      return lastRunId;
    },

    abortRun(runId, message) {
      if (runs.has(runId)) session.abort(runId, message).catch(() => {});
    },

    failRun(runId, error) {
      takeRun(runId)?.fail(error);
    },

    async close(error) {
      const isFirst = end === null;
      if (isFirst || error instanceof EngineDisposedError) end = { error };
      if (!isFirst) return;
      worker.removeEventListener('message', onReply);
      worker.removeEventListener('error', onWorkerError);
      worker.removeEventListener('messageerror', onWorkerError);
      lockWait.abort();
      for (const reject of pending) reject(error);
      for (const runId of [...runs.keys()]) takeRun(runId)?.fail(error);
      updateTicker();
      await letGo(error);
    },
  };

  port.addEventListener('message', onEvent);
  // Some browsers tell of a dead worker here too; our own closing of the port comes after the end.
  port.addEventListener('close', () => void connection.close(goneError(label)));
  worker.addEventListener('message', onReply);
  worker.addEventListener('error', onWorkerError);
  worker.addEventListener('messageerror', onWorkerError);
  tell({ foretoken: 'hello' });
  return connection;
}

function newLockName(): string {
  return `foretoken-${Date.now().toString(36)}-${Math.random().toString(36).slice(2)}`;
}

function fromWireError({ name, message, stack }: WireError): unknown {
  const error = new Error(message);
  return reviveError(Object.assign(error, { name, stack: stack ?? error.stack }));
}

function silenceError(label: string, wasReady: boolean): WorkerError {
  return wasReady
    ? new WorkerError(
        `Expected ${label} to answer, got ${silenceTimeoutMs / 1000} s of silence: it is dead or hangs. Create the engine again. ${help}`,
      )
    : new WorkerError(
        `Expected ${label} to answer within ${readyTimeoutMs / 1000} s of its start, got silence. ` +
          `Its file must be foretoken's worker.js, or import 'foretoken/worker'. ${help}`,
      );
}

function crashError(label: string, wasReady: boolean, { type, message, filename, lineno }: ErrorEvent): WorkerError {
  const place = filename ? ` (${filename}:${lineno})` : '';
  const what = message ? `the error "${message}"${place}` : `an event \`${type}\` without a message`;
  return wasReady
    ? new WorkerError(`Expected ${label} to keep running, got ${what}. Create the engine again. ${help}`)
    : new WorkerError(
        `Expected ${label} to start, got ${what}. Usual causes: its URL is a 404 or answers HTML, or the page's ` +
          `Content-Security-Policy blocks it (allow \`worker-src 'self'\`). ${help}`,
      );
}

function goneError(label: string): WorkerError {
  return new WorkerError(
    `Expected ${label} to keep running, but it was terminated (by \`terminate()\`, or by the browser for want of memory). ` +
      `Create the engine again. ${help}`,
  );
}

function protocolError(label: string, protocol: unknown): WorkerError {
  return new WorkerError(
    `Expected ${label} to speak protocol ${workerProtocol}, got ${String(protocol)}: page and worker come from different ` +
      `versions of foretoken. Deploy both files of one version, clear what caches the old one, and close tabs that still run it. ${help}`,
  );
}
