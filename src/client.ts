import { wrap } from 'comlink';
import { createChat } from './chat.ts';
import type { ModelCheck } from './check_types.ts';
import { toDraftOption } from './draft_options.ts';
import { EngineDisposedError, InvalidOptionError, WorkerError } from './errors.ts';
import { createEmitter } from './events.ts';
import { hubFolderUrl } from './model/hub.ts';
import type { ParsedLocation } from './model_options.ts';
import {
  type ParsedEngineOptions,
  parseCostOptions,
  parseEngineOptions,
  parseGenerateOptions,
  parsePrompt,
  toGenerateOptions,
} from './options.ts';
import { createRun } from './run.ts';
import type { Engine, EngineInfo, EngineOptions } from './types.ts';
import type { LoadRequest, WorkerSession } from './worker_api.ts';
import { type Connection, connect, type RemoteSession, type StartedWorker } from './worker_connection.ts';

/** Where the engine runs. Default: the package's own worker file. A URL or a factory lets us start (and end) the worker. */
export type WorkerOption = Worker | URL | (() => Worker);

/** Options of the worker-backed `createEngine`. */
export type ClientEngineOptions = EngineOptions & { worker?: WorkerOption };

/**
 * Starts a worker, loads the models in it, and gives the engine that lives there.
 * @throws InvalidOptionError before anything is started; WorkerError; the signal's reason; whatever loading throws.
 */
export async function createEngine(options: ClientEngineOptions): Promise<Engine> {
  const parsed = parseEngineOptions(options, ['worker']);
  return inWorker(parsed, async (connection, request) =>
    makeEngine(connection, await connection.call((session) => session.load(request)), parsed.modelName),
  );
}

/**
 * Says in a worker of its own what a pair needs and whether this device has it, without downloading weights: config,
 * tokenizer, and the heads of the weight files are read. What `createEngine` would refuse is listed in `problems`.
 * @throws as `createEngine` does where files cannot be fetched, are malformed, or are of no supported model
 */
export async function checkModel(options: ClientEngineOptions): Promise<ModelCheck> {
  return inWorker(parseEngineOptions(options, ['worker'], 'checkModel()'), async (connection, request) => {
    const check = await connection.call((session) => session.check(request));
    void connection.close(new EngineDisposedError('The check is over.'));
    return check;
  });
}

/** Whatever goes wrong, an abort included, the worker is let go. */
async function inWorker<T>(
  options: ParsedEngineOptions,
  use: (connection: Connection, request: LoadRequest) => Promise<T>,
): Promise<T> {
  const { extras, onProgress, signal, contextLength, dtype, cache, draft, ngram, ...rest } = options;
  const request: LoadRequest = {
    ...rest,
    ...(contextLength === null ? {} : { contextLength }),
    ...(dtype === null ? {} : { dtype }),
    ...(cache === null ? {} : { cache }),
    target: resolveUrl(rest.target, 'target'),
    draft: toDraftOption({ draft: draft === null ? null : resolveUrl(draft, 'draft'), ngram }),
  };
  signal?.throwIfAborted();

  const wrapPort = (port: MessagePort): RemoteSession => wrap<WorkerSession>(port);
  const connection = connect(startWorker(extras.worker), wrapPort);
  connection.onProgress = onProgress;
  const abort = (): void => void connection.close(signal?.reason);
  signal?.addEventListener('abort', abort, { once: true });
  try {
    await connection.ready;
    return await use(connection, request);
  } catch (error) {
    void connection.close(error);
    throw error;
  } finally {
    connection.onProgress = null;
    signal?.removeEventListener('abort', abort);
  }
}

function makeEngine(connection: Connection, info: EngineInfo, modelName: string): Engine {
  let disposing: Promise<void> | null = null;
  // What the worker need not tell does not cross.
  const events = createEmitter((name, isHeard) => {
    connection.call((session) => session.listen(name, isHeard)).catch(() => {}); // ended: there is nothing to tell
  });
  connection.onEngineEvent = ({ name, data }) => events.emit(name, () => data);
  const engine: Engine = {
    info,

    generate(rawPrompt, rawOptions) {
      const { vocabSize, eosTokenIds } = info.target;
      const parsed = parseGenerateOptions(rawOptions, { drafter: info.drafter, vocabSize, eosTokenIds });
      const { signal } = parsed;
      const options = toGenerateOptions(parsed);
      const prompt = parsePrompt(rawPrompt, { vocabSize, contextLength: info.contextLength });
      const control = createRun();
      const runId = connection.addRun(control);
      if (runId === null) return control.run;

      const abortMessage = signal?.aborted ? messageOf(signal.reason) : null;
      const abort = (): void => connection.abortRun(runId, messageOf(signal?.reason));
      const removeAbort = (): void => signal?.removeEventListener('abort', abort);
      signal?.addEventListener('abort', abort, { once: true });
      control.run.result.then(removeAbort, removeAbort);
      control.onCancel(() => connection.abortRun(runId, 'The iteration was left before the end.'));
      connection
        .call((session) => session.generate({ runId, prompt, options, abortMessage }))
        .catch((error) => connection.failRun(runId, error));
      return control.run;
    },

    chat: createChat({
      modelName,
      info,
      generate: (prompt, options) => engine.generate(prompt, options),
      applyTemplate: (messages) => connection.call((session) => session.applyTemplate(messages)),
    }),

    on: events.on,

    metrics: () => connection.call((session) => session.metrics()),

    async measureCosts(rawOptions) {
      const options = parseCostOptions(rawOptions);
      return connection.call((session) => session.measureCosts(options));
    },

    dispose() {
      disposing ??= connection.close(
        new EngineDisposedError('Expected a live engine, got a disposed one. Create another with `createEngine`.'),
      );
      return disposing;
    },
  };
  return engine;
}

/** Validates the option `worker` and starts what it names. */
function startWorker(option: unknown): StartedWorker {
  const isFactory = typeof option === 'function';
  const isUrl = option instanceof URL;
  if (option !== undefined && !isFactory && !isUrl && !isWorker(option)) throw workerOptionError(option);
  if (isWorker(option)) return { worker: option, owned: false, label: 'the given Worker' };

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
    throw new WorkerError(
      `Expected ${label} to start, got "${messageOf(error)}". A worker must come from the page's own origin: ` +
        'host the file there. See docs/troubleshooting.md#workererror.',
      { cause: error },
    );
  }
  if (!isWorker(worker)) throw workerOptionError(worker, 'the function to return a Worker');
  return { worker, owned: true, label };
}

/** By shape, not by class: a worker may come from another realm. */
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

/** A worker resolves relative URLs against its own file, a page means its own address. */
function resolveUrl(url: ParsedLocation, option: 'target' | 'draft'): ParsedLocation {
  if (typeof url !== 'string') return url;
  const base = globalThis.document?.baseURI ?? globalThis.location?.href;
  try {
    return hubFolderUrl(url) ?? new URL(url, base).href;
  } catch {
    throw new InvalidOptionError(
      `Expected \`${option}\` to be the URL of a model folder, got "${url}", which is no URL. Pass for example '/models/target/', or the id of a Hugging Face repository.`,
    );
  }
}

function messageOf(reason: unknown): string {
  return reason instanceof Error ? reason.message : String(reason);
}
