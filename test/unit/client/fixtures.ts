/** A worker and an engine to test the client against: real messages over real ports, no GPU. */
import { expose } from 'comlink';
import { createChat } from '../../../src/chat.ts';
import type { ModelCheck } from '../../../src/check_types.ts';
import { createEngineSharing } from '../../../src/engine_sharing.ts';
import { EngineDisposedError, InvalidOptionError, ModelFetchError } from '../../../src/errors.ts';
import { createEmitter } from '../../../src/events.ts';
import { createRun } from '../../../src/run.ts';
import type { Engine, EngineInfo, EngineOptions, GenerateOptions, GenerateResult, Round } from '../../../src/types.ts';
import { type EngineApi, serveWorker, type WorkerReply } from '../../../src/worker_api.ts';

export const info: EngineInfo = {
  adapter: { vendor: 'test', architecture: '', device: '', description: '' },
  features: [],
  limits: { maxBufferSize: 1, maxStorageBufferBindingSize: 1, maxComputeWorkgroupStorageSize: 1 },
  lossless: 'exact',
  paddedRows: false,
  kernelKind: 'workgroup',
  target: {
    url: '',
    architecture: 'LlamaForCausalLM',
    parameterCount: 1,
    layerCount: 1,
    hiddenSize: 4,
    vocabSize: 512,
    headTokens: 512,
    eosTokenIds: [1],
    maxContextLength: 256,
    weightBytes: 1,
    dispatchesPerPass: 1,
    dispatchesPerLayer: 1,
  },
  draft: null,
  contextLength: 256,
  dtype: 'f16',
  drafter: null,
  roundsInFlight: 2,
  maxRunningRequests: 4,
  dispatchesPerRound: [42],
  loadTimeMs: 1,
  shared: false,
  costs: null,
  gpuBytes: 1,
};

export function makeRound(index: number, token = index): Round {
  const piece = `t${token} `;
  return {
    text: piece,
    tokens: [token],
    pieces: [piece],
    stats: {
      index,
      phase: index === 0 ? 'prefill' : 'plain',
      draftLength: 0,
      acceptedCount: 0,
      tokenCount: 1,
      roundTimeMs: 1,
    },
  };
}

export function makeResult(rounds: readonly Round[], aborted: string | null = null): GenerateResult {
  const tokens = rounds.flatMap((round) => round.tokens);
  return {
    text: rounds.map((round) => round.text).join(''),
    tokens,
    stats: {
      roundCount: rounds.length,
      verifyCount: 0,
      plainCount: rounds.length,
      draftedCount: 0,
      acceptedCount: 0,
      acceptanceRate: null,
      tokensPerRound: null,
      prefillTokensPerSecond: null,
      timePerOutputTokenMs: null,
      queueTimeMs: 0,
      timeToFirstTokenMs: 0,
      decodeTimeMs: 0,
      tokensPerSecond: null,
      observedSpeedup: null,
      expectedSpeedup: null,
    },
    meta_info: {
      id: 'r',
      finish_reason: aborted === null ? { type: 'length', length: tokens.length } : { type: 'abort', message: aborted },
      prompt_tokens: 1,
      completion_tokens: tokens.length,
      cached_tokens: 0,
      weight_version: 'default',
      e2e_latency: 0,
    },
  };
}

const macrotask = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** What the fake engines of one test did. */
export type EngineLog = {
  created: EngineOptions[];
  generated: GenerateOptions[];
  disposed: number;
  active: number;
  mostActive: number;
};

export function newLog(): EngineLog {
  return { created: [], generated: [], disposed: 0, active: 0, mostActive: 0 };
}

/**
 * An engine of the real one's manners: one request at a time, a round per macrotask, aborts between rounds. A target URL
 * that contains `missing` fails to load, one that contains `forever` loads until it is aborted. Token id 13 in the
 * prompt fails the request after two rounds; token i of the output is `prompt[0] + i`, or i for a text. The prompt of a chat
 * is 100 times the number of its messages, and one that says `refuse` is refused.
 */
export function fakeEngine(log: EngineLog) {
  return async (options: EngineOptions): Promise<Engine> => {
    log.created.push(options);
    for (let loadedBytes = 100; loadedBytes <= 300; loadedBytes += 100) {
      options.signal?.throwIfAborted();
      options.onProgress?.({ model: 'target', loadedBytes, totalBytes: 300 });
      await macrotask();
    }
    const target = String(options.target);
    if (target.includes('missing')) throw new ModelFetchError(`Expected ${target}, got 404.`);
    if (target.includes('forever')) {
      await new Promise((_, reject) => options.signal?.addEventListener('abort', () => reject(options.signal?.reason)));
    }
    let turn: Promise<void> = Promise.resolve();
    const events = createEmitter();
    let disposed = false;
    const disposedError = () => new EngineDisposedError('Expected a live engine, got a disposed one.');
    const engine: Engine = {
      info,
      generate(prompt, options = {}) {
        log.generated.push(options);
        const { maxNewTokens = 8, signal } = options;
        const control = createRun();
        const leaving = new AbortController();
        control.onCancel(() => leaving.abort(new Error('left')));
        const previous = turn;
        turn = (async () => {
          await previous;
          log.active += 1;
          log.mostActive = Math.max(log.mostActive, log.active);
          const rounds: Round[] = [];
          const abortedBy = () =>
            signal?.aborted ? signal.reason : leaving.signal.aborted ? leaving.signal.reason : null;
          const first = typeof prompt === 'string' ? 0 : prompt[0]!;
          while (rounds.length < maxNewTokens && !disposed && abortedBy() === null) {
            if (rounds.length === 2 && first === 13) break;
            const round = makeRound(rounds.length, first + rounds.length);
            rounds.push(round);
            control.push(round);
            events.emit('round', () => ({ records: [{ id: 'r', slot: 0, ...round.stats }] }));
            await macrotask();
          }
          log.active -= 1;
          if (disposed) control.fail(disposedError());
          else if (first === 13) control.fail(new ModelFetchError('unlucky'));
          else {
            const result = makeResult(rounds, abortedBy()?.message ?? null);
            control.finish(result);
            events.emit('request', () => result);
          }
        })();
        return control.run;
      },
      chat: createChat({
        modelName: 'in the worker',
        info,
        generate: (prompt, options) => engine.generate(prompt, options),
        async applyTemplate(messages) {
          const text = messages.map(({ role, content }) => `${role}: ${content}\n`).join('');
          if (text.includes('refuse')) throw new InvalidOptionError('The template refuses.');
          return { text, tokens: [messages.length * 100] };
        },
      }),
      on: events.on,
      async metrics() {
        return `foretoken:spec_verify_calls_total 0\n`;
      },
      async measureCosts({ sampleCount = 5 } = {}) {
        return {
          committedLength: 48,
          targetStepMs: 1,
          draftStepMs: null,
          c: null,
          v: [1],
          vSpread: [0],
          sampleCount,
          longContext: null,
        };
      },
      async dispose() {
        disposed = true;
        log.disposed += 1;
      },
    };
    return engine;
  };
}

export type FakeWorker = Worker & {
  /** Dies as a killed process does: no event, no answer, ports stay open. */
  hang(): void;
  /** Messages that the page received outside of engine ports. */
  replies: WorkerReply[];
  /** Events on engine ports, counted. */
  eventCount(): number;
  terminated: boolean;
};

/**
 * A Worker over a MessageChannel with the real worker-side code at the other end. `mode`: `ok`; `silent` runs nothing;
 * `error` fails as a 404 does in Chromium (an event without a message); `late` begins to listen after 2.5 s;
 * `old` speaks an earlier protocol.
 */
export function fakeWorker(
  log: EngineLog,
  mode: 'ok' | 'silent' | 'error' | 'late' | 'old' = 'ok',
  api = fakeApi(log),
): FakeWorker {
  const target = new EventTarget();
  const { port1: page, port2: inside } = new MessageChannel();
  const sessionPorts: MessagePort[] = [];
  let events = 0;
  const worker = Object.assign(target, {
    onmessage: null,
    onmessageerror: null,
    onerror: null,
    replies: [] as WorkerReply[],
    terminated: false,
    eventCount: () => events,
    postMessage(message: unknown, transfer: Transferable[] = []) {
      if (!worker.terminated) page.postMessage(message, transfer);
    },
    hang() {
      for (const port of sessionPorts) port.postMessage = () => {};
      inside.postMessage = () => {};
    },
    terminate() {
      worker.hang();
      worker.terminated = true;
      page.close();
    },
  });
  page.addEventListener('message', ({ data }) => {
    worker.replies.push(data);
    target.dispatchEvent(new MessageEvent('message', { data }));
  });
  page.start();
  const serve = (): void => {
    serveWorker(
      {
        addEventListener: (type, listener) => {
          inside.addEventListener(type, listener as (event: Event) => void);
          inside.start();
        },
        postMessage: (message) => inside.postMessage(mode === 'old' ? { ...message, protocol: 0 } : message),
      },
      api,
      (session, port) => {
        const { postMessage } = port;
        port.postMessage = (message: unknown) => {
          if ((message as { event?: string }).event !== undefined) events += 1;
          postMessage.call(port, message);
        };
        sessionPorts.push(port);
        expose(session, port);
      },
    );
  };
  if (mode === 'ok' || mode === 'old') serve();
  if (mode === 'late') {
    inside.addEventListener('message', () => {}); // what arrives before `serve` is lost
    inside.start();
    setTimeout(serve, 2500);
  }
  if (mode === 'error') setTimeout(() => target.dispatchEvent(new Event('error')));
  return worker as unknown as FakeWorker;
}

/** How a promise ends within 2 s; a promise that stays pending is the failure that these tests look for. */
export async function settled<T>(promise: Promise<T>): Promise<{ value: T } | { error: unknown }> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('still pending after 2 s')), 2000);
  });
  const outcome = promise.then(
    (value) => ({ value }),
    (error: unknown) => ({ error }),
  );
  return Promise.race([outcome, late]).finally(() => clearTimeout(timer));
}

/** Collects the rounds of an iteration and what ended it. */
export async function drain(run: AsyncIterable<Round>): Promise<{ rounds: Round[]; error: unknown }> {
  const rounds: Round[] = [];
  try {
    for await (const round of run) rounds.push(round);
    return { rounds, error: null };
  } catch (error) {
    return { rounds, error };
  }
}

/** Counts unhandled rejections from now on; `count()` waits until Node would have reported the last one. */
export function watchRejections() {
  const seen: unknown[] = [];
  const listener = (reason: unknown): void => void seen.push(reason);
  process.on('unhandledRejection', listener);
  return {
    async count(): Promise<number> {
      await macrotask();
      await macrotask();
      return seen.length;
    },
    stop: () => process.off('unhandledRejection', listener),
  };
}

/** What `foretoken/engine` gives, without a GPU. */
export const fakeApi = (log: EngineLog): EngineApi => ({
  createEngine: fakeEngine(log),
  joinEngine: createEngineSharing(fakeEngine(log)),
  async checkModel({ target, signal }) {
    if (String(target).includes('missing')) throw new ModelFetchError(`Expected ${target}, got 404.`);
    if (String(target).includes('forever')) {
      await new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason)));
    }
    return { fits: false, problems: [{ code: 'DeviceLimitError', message: String(target) }] } as unknown as ModelCheck;
  },
});
