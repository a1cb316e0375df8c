import { wrap } from 'comlink';
import { createChat } from './chat.ts';
import type { ModelCheck } from './check_types.ts';
import { toDraftOption } from './draft_options.ts';
import { EngineDisposedError, InvalidOptionError } from './errors.ts';
import { createEmitter } from './events.ts';
import { hubFolderUrl } from './model/hub.ts';
import type { ParsedLocation } from './model_options.ts';
import { expected } from './option_values.ts';
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
import { type Connection, connect, type RemoteSession } from './worker_connection.ts';
import { startSharedWorker, startWorker } from './worker_start.ts';

/** Where the engine runs. Default: the package's own worker file. A URL or a factory lets us start (and end) the worker. */
export type WorkerOption = Worker | URL | (() => Worker);

/** Options of the worker-backed `createEngine`. */
export type ClientEngineOptions = EngineOptions & {
  worker?: WorkerOption;
  /**
   * Shares one engine among the tabs of this origin that give the same name (true: `'default'`) and the same options: its
   * weights are loaded once. A tab that closes, or calls `dispose()`, takes its own requests along; the last one ends the
   * engine. `metrics()` and `on()` tell of all tabs. Models are given by URL, and so is `worker`. Where the browser has
   * no WebGPU in shared workers, each tab gets an engine of its own (`info.shared` is false). Default false.
   */
  share?: boolean | string;
};

/** What `share: true` is called. */
const defaultShareName = 'default';
const clientKeys = ['worker', 'share'];

/**
 * Starts a worker, loads the models in it, and gives the engine that lives there.
 * @throws InvalidOptionError before anything is started; WorkerError; the signal's reason; whatever loading throws.
 */
export async function createEngine(options: ClientEngineOptions): Promise<Engine> {
  const parsed = parseEngineOptions(options, clientKeys);
  return inWorker(parsed, shareName(parsed), async (connection, request, share) => {
    const info = await connection.call((session) => session.load(request, share));
    return makeEngine(connection, info, parsed.modelName);
  });
}

/**
 * Says in a worker of its own what a pair needs and whether this device has it, without downloading weights: config,
 * tokenizer, and the heads of the weight files are read. What `createEngine` would refuse is listed in `problems`.
 * @throws as `createEngine` does where files cannot be fetched, are malformed, or are of no supported model
 */
export async function checkModel(options: ClientEngineOptions): Promise<ModelCheck> {
  return inWorker(parseEngineOptions(options, clientKeys, 'checkModel()'), null, async (connection, request) => {
    const check = await connection.call((session) => session.check(request));
    void connection.close(new EngineDisposedError('The check is over.'));
    return check;
  });
}

/** The name under which to share, or null. */
function shareName({ extras, target, draft }: ParsedEngineOptions): string | null {
  const { share = false } = extras;
  if (typeof share !== 'boolean' && (typeof share !== 'string' || share.trim() === '')) {
    throw expected('share', 'true, false or a name', share, 'Tabs that give the same name share one engine.');
  }
  if (share === false) return null;
  for (const [key, location] of Object.entries({ target, draft })) {
    if (location === null || typeof location === 'string') continue;
    throw expected(key, 'a URL or a repository, as `share` is given', location, 'Files are known to one tab only.');
  }
  return share === true ? defaultShareName : share;
}

/** Runs `use` on a worker; `share` is null where it is this page's own. Whatever goes wrong, an abort included, the worker is let go. */
async function inWorker<T>(
  options: ParsedEngineOptions,
  share: string | null,
  use: (connection: Connection, request: LoadRequest, share: string | null) => Promise<T>,
): Promise<T> {
  const { extras, onProgress, signal, contextLength, dtype, cache, draft, ngram, headTokens, ...rest } = options;
  const request: LoadRequest = {
    ...rest,
    ...(contextLength === null ? {} : { contextLength }),
    ...(dtype === null ? {} : { dtype }),
    ...(cache === null ? {} : { cache }),
    target: resolveUrl(rest.target, 'target'),
    draft: toDraftOption({ draft: draft === null ? null : resolveUrl(draft, 'draft'), ngram, headTokens }),
  };
  signal?.throwIfAborted();

  const wrapPort = (port: MessagePort): RemoteSession => wrap<WorkerSession>(port);
  let started = (share === null ? null : startSharedWorker(extras.worker)) ?? startWorker(extras.worker);
  let connection = connect(started, wrapPort);
  const abort = (): void => void connection.close(signal?.reason);
  signal?.addEventListener('abort', abort, { once: true });
  try {
    const { hasGpu } = await connection.ready;
    if (started.isShared && !hasGpu) {
      void connection.close(new EngineDisposedError('Expected WebGPU in a shared worker, found none.'));
      started = startWorker(extras.worker);
      connection = connect(started, wrapPort);
      await connection.ready;
    }
    connection.onProgress = onProgress;
    return await use(connection, request, started.isShared ? share : null);
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
