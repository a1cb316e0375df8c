import { createChat } from './chat.ts';
import { type LoadEngineOptions, type LoadedPair, loadOnto, type OpenedPair, openAndLoad } from './engine_load.ts';
import { DeviceLostError, EngineDisposedError } from './errors.ts';
import type { RoundEventRecord } from './event_types.ts';
import { createEmitter } from './events.ts';
import { closeGpu, type Gpu } from './gpu/device.ts';
import { renderChat } from './model/chat_template.ts';
import { pagesFor } from './model/kv_cache.ts';
import type { ModelSource } from './model/source.ts';
import { type ParsedEngineOptions, parseCostOptions, parseGenerateOptions, parsePrompt } from './options.ts';
import { createRun } from './run.ts';
import { forgetTokens, takePages } from './speculative/batch.ts';
import { measureCosts } from './speculative/costs.ts';
import { addBatch, createMetrics, prometheusText } from './speculative/metrics.ts';
import type { EmittedRecord } from './speculative/record.ts';
import { createRequest, type Request } from './speculative/request.ts';
import { createScheduler } from './speculative/scheduler.ts';
import { type Slot, sharedTokens } from './speculative/slots.ts';
import { batchEvent, batchLine, finishLine, roundStats } from './speculative/stats.ts';
import type { Engine, GenerateRun } from './types.ts';

/** A device that is lost again so soon will be lost a third time. */
const lossIntervalMs = 60_000;

export type CoreOptions = LoadEngineOptions &
  Pick<ParsedEngineOptions, 'modelName' | 'metricsPrefix' | 'logMetrics'> & {
    /** Opens another device when the first one is lost; without it a loss ends the engine. */
    reopenGpu?: () => Promise<Gpu>;
    /** Milliseconds; for tests. */
    now?: () => number;
  };

/** Loads a pair onto an opened device. On any failure, an abort included, everything made so far is freed. */
export async function createEngineOn(
  gpu: Gpu,
  targetSource: ModelSource,
  draftSource: ModelSource | null,
  options: CoreOptions,
): Promise<Engine> {
  const startedAt = performance.now();
  const { models, loaded } = await openAndLoad(gpu, targetSource, draftSource, options);
  return serve(models, loaded, options, performance.now() - startedAt);
}

/** The engine's face: requests share rounds, everything ends with `dispose`. */
function serve(models: OpenedPair, first: LoadedPair, options: CoreOptions, loadTimeMs: number): Engine {
  const { config, tokenizer, chatTemplate } = models.target;
  const { info } = first;
  const { contextLength } = info;
  const { now = () => performance.now() } = options;
  let loaded = first;
  let recovery: Promise<LoadedPair> | null = null;
  let recoveredAt = Number.NEGATIVE_INFINITY;
  const disposal = new AbortController();
  const metrics = createMetrics({ prefix: options.metricsPrefix, modelName: options.modelName });
  const events = createEmitter();
  const requests = new Set<Request>();
  let requestCount = 0;
  let disposed = false;
  const running = new Map<number, Request>();
  const scheduler = createScheduler({
    slotCount: info.maxRunningRequests,
    pageCount: loaded.pageCount,
    isDraining: (slot) => running.get(slot)?.hasEnded() ?? false,
  });

  let windowStartedAt = now();
  const onRound = (records: EmittedRecord[]): void => {
    if (records.length > 0) events.emit('round', () => ({ records: records.map(toEventRecord) }));
    const window = addBatch(metrics, records);
    if (window === null) return;
    const elapsedMs = now() - windowStartedAt;
    windowStartedAt = now();
    const waitingCount = requests.size - running.size;
    const event = batchEvent(window, { runningCount: running.size, waitingCount, elapsedMs });
    events.emit('batch', () => event);
    if (options.logMetrics) console.log(batchLine(event));
  };
  const toEventRecord = (record: EmittedRecord): RoundEventRecord => {
    const { roundTimeMs, ...stats } = roundStats(record, 0);
    return { id: running.get(record.slot)?.id ?? '', slot: record.slot, ...stats };
  };
  loaded.batch.onRound = onRound;

  /** What to work on now: where the device was lost, the same models on a new one. */
  const live = async (): Promise<LoadedPair> => {
    if (disposed) throw disposedError();
    if (recovery !== null) return recovery;
    const { failure } = loaded.gpu;
    if (failure === null) return loaded;
    if (!(failure instanceof DeviceLostError) || options.reopenGpu === undefined) throw failure;
    if (now() - recoveredAt < lossIntervalMs) {
      throw new DeviceLostError(
        'The GPU device was lost twice within a minute, which will not get better by trying: close other pages that use ' +
          `the GPU, or load a smaller model, \`dtype\` or \`contextLength\`. The last cause: ${failure.message}`,
      );
    }
    recoveredAt = now();
    // All requests that run wait for the one recovery.
    recovery = recover(options.reopenGpu);
    try {
      loaded = await recovery;
      loaded.batch.onRound = onRound;
      return loaded;
    } finally {
      recovery = null;
    }
  };
  const recover = async (reopenGpu: () => Promise<Gpu>): Promise<LoadedPair> => {
    closeGpu(loaded.gpu);
    try {
      const gpu = await reopenGpu();
      const isSame = JSON.stringify(gpu.adapter) === JSON.stringify(loaded.gpu.adapter);
      const known = isSame
        ? { costs: loaded.info.costs, kernelKind: loaded.info.kernelKind }
        : { costs: null, kernelKind: null };
      return await loadOnto(gpu, models, { ...options, ...known, onProgress: null, signal: disposal.signal });
    } catch (error) {
      throw disposed ? disposedError() : error;
    }
  };
  /** Decodes in a slot to the end, over lost devices. Never rejects. */
  const serveRequest = async (request: Request, slot: number, pages: readonly number[], keptCount: number) => {
    let kept = keptCount;
    running.set(slot, request);
    try {
      for (let outcome = 'lost'; outcome === 'lost'; kept = 0) {
        const { batch } = await live();
        takePages(batch, slot, pages, kept);
        outcome = await request.decodeOn(batch, slot);
      }
    } catch (error) {
      request.fail(error);
    } finally {
      running.delete(slot);
      requests.delete(request);
    }
  };

  const engine: Engine = {
    info: { ...info, loadTimeMs, shared: false },
    generate(prompt, raw) {
      const parsedOptions = parseGenerateOptions(raw, {
        drafter: info.drafter,
        vocabSize: config.vocabSize,
        eosTokenIds: config.eosTokenIds,
      });
      const facts = { vocabSize: config.vocabSize, contextLength };
      const parsed = parsePrompt(prompt, facts);
      // What only the tokenizer or time can tell fails the run, as it does across a worker.
      if (disposed) return failedRun(disposedError());
      let promptTokens: number[];
      try {
        promptTokens = parsePrompt(typeof parsed === 'string' ? tokenizer.encode(parsed) : parsed, facts) as number[];
      } catch (error) {
        return failedRun(error);
      }
      requestCount += 1;
      const limit = Math.min(contextLength, promptTokens.length + parsedOptions.maxNewTokens);
      const request = createRequest(
        {
          ...parsedOptions,
          id: `request-${requestCount}`,
          promptTokens,
          limit,
        },
        {
          tokenizer,
          metrics,
          onFinish: (result) => {
            events.emit('request', () => ({ meta_info: result.meta_info, stats: result.stats }));
            if (options.logMetrics) console.log(finishLine(result.meta_info));
          },
        },
      );
      requests.add(request);
      void scheduler.add({
        priority: parsedOptions.priority,
        pageCount: pagesFor(limit),
        sharedTokens: (slot, pageCount) => sharedTokens(loaded.batch.slots[slot] as Slot, promptTokens, pageCount),
        run: (...place) => serveRequest(request, ...place),
      });
      return request.run;
    },
    chat: createChat({
      modelName: options.modelName,
      info,
      generate: (prompt, generateOptions) => engine.generate(prompt, generateOptions),
      async applyTemplate(messages) {
        if (disposed) throw disposedError();
        const text = renderChat(chatTemplate, messages);
        return { text, tokens: tokenizer.encodeRendered(text) };
      },
    }),
    on: events.on,
    async metrics() {
      if (disposed) throw disposedError();
      return prometheusText(metrics);
    },
    async measureCosts(raw) {
      const { sampleCount } = parseCostOptions(raw);
      return scheduler.addExclusive(async () => {
        const { gpu, batch } = await live();
        const { plan, sequences } = batch;
        forgetTokens(batch);
        takePages(batch, 0, [...Array(plan.target.kvCache.blocksPerSlot).keys()], 0);
        try {
          return await measureCosts(gpu, plan, sequences, { sampleCount });
        } catch (error) {
          throw disposed ? disposedError() : error;
        }
      });
    },
    async dispose() {
      if (disposed) return;
      disposed = true;
      for (const request of requests) request.fail(disposedError());
      disposal.abort(disposedError());
      closeGpu(loaded.gpu);
      await scheduler.idle();
    },
  };
  return engine;
}

const disposedError = () =>
  new EngineDisposedError('The engine was disposed. Create a new one with createEngine() to go on.');

function failedRun(error: unknown): GenerateRun {
  const { run, fail } = createRun();
  fail(error);
  return run;
}
