/**
 * Requests of every kind, thousands, through client, messages and engine in one page: nothing grows, nothing slows down.
 * The worker's code runs in the page, so that one heap and one GPU hold all there is.
 */
import { expose } from 'comlink';
import { expect } from 'vitest';
import { cdp } from 'vitest/browser';
import { median } from '../../demo/measure.ts';
import { createEngine } from '../../src/client.ts';
import { createEngineSharing } from '../../src/engine_sharing.ts';
import { closeGpu, type Gpu, openGpu } from '../../src/gpu/device.ts';
import type { Engine, GenerateOptions } from '../../src/types.ts';
import { type EngineApi, serveWorker } from '../../src/worker_api.ts';
import { createRandom } from '../reference/random.ts';
import { randomModel } from '../reference/random_model.ts';
import {
  jsonBytes,
  type ModelFolder,
  memorySource,
  openEngine,
  randomFolder,
  withoutLastLayer,
} from './engine_bench.ts';

const maxNewTokens = 14;
/** Small, as sampling over a vocabulary is what a CPU adapter is slowest at; one letter each. */
const vocabSize = 259;
const prompt = 'onceuponatime';
const runningCount = 4;

async function openTinyEngine(gpu: Gpu): Promise<Engine> {
  const model = randomModel(
    {
      vocab_size: vocabSize,
      hidden_size: 32,
      intermediate_size: 32,
      head_dim: 8,
      num_hidden_layers: 2,
      max_position_embeddings: 128,
    },
    7,
  );
  const vocab = Object.fromEntries(Array.from({ length: vocabSize }, (_, id) => [String.fromCharCode(97 + id), id]));
  const files: ModelFolder = new Map([
    ['tokenizer.json', jsonBytes({ model: { type: 'BPE', vocab, merges: [] } })],
    [
      'tokenizer_config.json',
      jsonBytes({ chat_template: '{% for message in messages %}{{ message.content }}{% endfor %}' }),
    ],
  ]);
  const target = memorySource('target', randomFolder(model, files));
  const draft = memorySource('draft', randomFolder(withoutLastLayer(model), files));
  const unused = () => Promise.reject(new Error('Expected one engine.'));
  const load = () => openEngine(target, draft, {}, gpu);
  const api: EngineApi = { createEngine: load, checkModel: unused, joinEngine: createEngineSharing(load) };
  const startWorker = (): Worker => {
    const { port1: page, port2: inside } = new MessageChannel();
    serveWorker(inside, api, expose);
    inside.start();
    page.start();
    return Object.assign(page, { terminate: () => page.close() }) as unknown as Worker;
  };
  return createEngine({ target: target.url, draft: draft.url, worker: startWorker });
}

/** Bytes of the JavaScript heap and of its array buffers, after a full collection. */
async function heldBytes(): Promise<number> {
  for (let i = 0; i < 2; i++) await cdp().send('HeapProfiler.collectGarbage'); // finalisers free more
  const usage = (await cdp().send('Runtime.getHeapUsage')) as { usedSize: number; backingStorageSize: number };
  return usage.usedSize + usage.backingStorageSize;
}

/** Request `index`, to its end; gives the times of its rounds. */
async function request(engine: Engine, index: number, greedy: readonly number[]): Promise<number[]> {
  const random = createRandom(index);
  const times: number[] = [];
  const consume = async (options: GenerateOptions, leaveAfter = Number.POSITIVE_INFINITY) => {
    const run = engine.generate(prompt, options);
    for await (const { stats } of run) {
      if (stats.phase !== 'prefill') times.push(stats.roundTimeMs);
      if (stats.index >= leaveAfter) break;
    }
    return run.result;
  };
  const draftLength = random.integer(3);
  switch (index % 5) {
    case 0: {
      const { tokens } = await consume({ maxNewTokens, draftLength, ignoreEos: true });
      expect(tokens).toEqual(greedy);
      break;
    }
    case 1: {
      await consume({
        maxNewTokens,
        draftLength: 0,
        seed: index,
        temperature: 0.9,
        topP: 0.9,
        logprobs: index % 2 === 1,
      });
      break;
    }
    case 2: {
      const abort = new AbortController();
      const leaving = consume(
        { maxNewTokens, draftLength: 1, temperature: 1, signal: abort.signal },
        2 + random.integer(8),
      );
      if (index % 2 === 0) setTimeout(() => abort.abort(), random.integer(20));
      await leaving;
      break;
    }
    case 3: {
      const messages = [{ role: 'user', content: prompt }] as const;
      const { choices } = await engine.chat.completions.create({
        messages,
        n: 2,
        max_tokens: 8,
        draft_length: 0,
        seed: index,
      });
      expect(choices).toHaveLength(2);
      break;
    }
    default: {
      let roundCount = 0;
      const ends = [engine.on('round', () => (roundCount += 1)), engine.on('request', () => {})];
      await consume({ maxNewTokens, draftLength, stop: 'qqqq', ignoreEos: true });
      for (const end of ends) end();
      expect(roundCount).toBeGreaterThan(3);
      expect(await engine.metrics()).toContain('spec_accept_rate');
    }
  }
  return times;
}

/** Runs `requestCount` requests, four at a time, in ten parts; the first is the measure of the last. */
export async function soak(requestCount: number, { slowdown }: { slowdown: number }): Promise<void> {
  const gpu = await openGpu();
  const engine = await openTinyEngine(gpu);
  const greedy = (await engine.generate(prompt, { maxNewTokens, ignoreEos: true }).result).tokens;
  const parts: { roundMs: number; heap: number }[] = [];
  let roundCount = 0;
  let next = 0;
  const end = engine.on('round', ({ records }) => {
    roundCount += records.length;
  });
  const [bytes, buffers] = [gpu.bytes, gpu.buffers.size];
  for (let part = 1; part <= 10; part++) {
    const times: number[] = [];
    const worker = async (): Promise<void> => {
      while (next < (requestCount * part) / 10) {
        next += 1;
        for (const time of await request(engine, next, greedy)) times.push(time);
      }
    };
    await Promise.all(Array.from({ length: runningCount }, worker));
    parts.push({ roundMs: median(times), heap: await heldBytes() });
    expect([gpu.bytes, gpu.buffers.size]).toEqual([bytes, buffers]);
  }
  end();
  const [first, last] = [parts[0], parts[9]] as [(typeof parts)[0], (typeof parts)[0]];
  console.log(
    `${requestCount} requests, ${roundCount} rounds, ${bytes} bytes on the GPU; by tenths, ` +
      `ms per round: ${parts.map(({ roundMs }) => roundMs.toFixed(2)).join(', ')}; ` +
      `heap in MB: ${parts.map(({ heap }) => (heap / 1e6).toFixed(2)).join(', ')}`,
  );
  expect(roundCount).toBeGreaterThan(10 * requestCount);
  expect(last.heap / first.heap).toBeLessThan(1.05);
  expect(last.roundMs / first.roundMs).toBeLessThan(slowdown);
  await engine.dispose();
  expect([gpu.bytes, gpu.buffers.size]).toEqual([0, 0]);
  closeGpu(gpu);
}
