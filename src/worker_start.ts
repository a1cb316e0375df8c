/** Starts workers: the one of a page, or the one that the pages of an origin share. */
import { InvalidOptionError, WorkerError } from './errors.ts';
import type { StartedWorker } from './worker_connection.ts';

/** Validates the option `worker` and starts what it names. */
export function startWorker(option: unknown): StartedWorker {
  const isFactory = typeof option === 'function';
  const isUrl = isUrlObject(option);
  if (option !== undefined && !isFactory && !isUrl && !isWorker(option)) throw workerOptionError(option);
  if (isWorker(option)) return { worker: option, owned: false, isShared: false, label: 'the given Worker' };

  const label = isFactory
    ? 'the Worker that the option `worker` made'
    : isUrl
      ? `the worker at ${option.href}`
      : "the worker (foretoken's worker.js)";
  if (!isFactory && typeof Worker === 'undefined') {
    throw new WorkerError(
      'Expected `Worker`, found none: this is no browser. Call `createEngine` in the page only, not while rendering on a ' +
        'server; in Node use `foretoken/engine`.',
    );
  }
  let worker: unknown;
  try {
    if (isFactory) worker = option();
    else if (isUrl) worker = new Worker(option, { type: 'module' });
    // Bundlers look for this very expression: it has to stay in one piece.
    else worker = new Worker(new URL('./worker.js', import.meta.url), { type: 'module' });
  } catch (error) {
    throw startError(label, error);
  }
  if (!isWorker(worker)) throw workerOptionError(worker, 'the function to return a Worker');
  return { worker, owned: true, isShared: false, label };
}

/** Connects to the shared worker of the option `worker`, or starts it. Null where there are none. */
export function startSharedWorker(option: unknown): StartedWorker | null {
  const isUrl = isUrlObject(option);
  if (option !== undefined && !isUrl) {
    throw new InvalidOptionError(
      `Expected the option \`worker\` to be a URL, as \`share\` is given, got ${option === null ? 'null' : typeof option}. ` +
        'A Worker belongs to one page; of a URL we make a SharedWorker.',
    );
  }
  if (typeof SharedWorker === 'undefined') return null;
  const label = isUrl ? `the shared worker at ${option.href}` : "the shared worker (foretoken's worker.js)";
  try {
    // Bundlers look for this very expression: it has to stay in one piece.
    const worker = isUrl
      ? new SharedWorker(option, { type: 'module' })
      : new SharedWorker(new URL('./worker.js', import.meta.url), { type: 'module' });
    return { worker: asWorker(worker), owned: true, isShared: true, label };
  } catch (error) {
    throw startError(label, error);
  }
}

/** Errors come from the worker itself, all else through its port. */
function asWorker(shared: SharedWorker): StartedWorker['worker'] {
  const { port } = shared;
  const sender = (type: string): EventTarget => (type === 'error' ? shared : port);
  port.start();
  return {
    postMessage: (message: unknown, transfer: Transferable[]) => port.postMessage(message, transfer),
    addEventListener: (type: string, listener: EventListener) => sender(type).addEventListener(type, listener),
    removeEventListener: (type: string, listener: EventListener) => sender(type).removeEventListener(type, listener),
    terminate: () => port.close(),
  } as StartedWorker['worker'];
}

function startError(label: string, error: unknown): WorkerError {
  const message = error instanceof Error ? error.message : String(error);
  return new WorkerError(
    `Expected ${label} to start, got "${message}". A worker must come from the page's own origin: ` +
      'host the file there. See docs/troubleshooting.md#workererror.',
    { cause: error },
  );
}

// By shape, not by class: both may come from another realm.

const isUrlObject = (value: unknown): value is URL => Object.prototype.toString.call(value) === '[object URL]';

function isWorker(value: unknown): value is Worker {
  const worker = value as Partial<Worker> | null | undefined;
  return (
    typeof worker === 'object' &&
    typeof worker?.postMessage === 'function' &&
    typeof worker.terminate === 'function' &&
    typeof worker.addEventListener === 'function'
  );
}

function workerOptionError(got: unknown, expected = 'a Worker, a URL, or a function that returns a Worker') {
  const hint = typeof got === 'string' ? ' Pass `new URL(…, import.meta.url)` instead of a string.' : '';
  const shown = got === null ? 'null' : typeof got;
  return new InvalidOptionError(`Expected the option \`worker\` to be ${expected}, got ${shown}.${hint}`);
}
