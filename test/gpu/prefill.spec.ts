/**
 * One row function (DESIGN: numerics): a token's keys, values and logits have the same bits whichever pass computes them:
 * the prompt at once, in chunks of any size, token by token, or drafted, verified and partly rejected.
 */
import { beforeAll, describe, expect, it } from 'vitest';
import { createStagingRing } from '../../src/gpu/readback.ts';
import type { ModelConfig } from '../../src/model/config.ts';
import { createForward, encodeForward, type Forward } from '../../src/model/forward.ts';
import { openPair, readWeights } from '../../src/model/load.ts';
import type { OpenedModel } from '../../src/model/opened_model.ts';
import { uploadWeights, type Weights, weightFormats } from '../../src/model/weights.ts';
import { createBatch, decode, readbackBytes } from '../../src/speculative/batch.ts';
import type { DraftLengthPolicy } from '../../src/speculative/draft_length.ts';
import { createRoundPlan } from '../../src/speculative/round.ts';
import { greedySampling } from '../../src/speculative/sampler.ts';
import { createSequences } from '../../src/speculative/sequence.ts';
import { embeddedPrompts, embeddedSource } from './engine_bench.ts';
import { bitsOf, differences, feed, poison, readKv, readLogits } from './forward_bench.ts';
import { device } from './kernel_bench.ts';

const promptLength = 140; // three KV blocks
const contextLength = 192;

type Model = { label: string; config: ModelConfig; weights: Weights; forward: Forward };
let models: { target: Model; draft: Model };
let prompt: number[];

const openForward = (model: Omit<Model, 'forward'>, rowCapacity: number) =>
  createForward(device(), model.label, model.config, model.weights, {
    slots: 1,
    contextLength,
    rowCapacity,
    paddedRows: false,
  });

beforeAll(async () => {
  const files = await openPair(embeddedSource('stories-3m'), embeddedSource('stories-650k'));
  const upload = async (label: 'target' | 'draft'): Promise<Model> => {
    const opened = files[label] as OpenedModel;
    const { config } = opened;
    const weights = await uploadWeights(
      device(),
      label,
      opened,
      readWeights(opened, label),
      weightFormats(opened, 'f16'),
    );
    const model = { label, config, weights };
    return { ...model, forward: await openForward(model, contextLength) };
  };
  models = { target: await upload('target'), draft: await upload('draft') };
  prompt = ((await embeddedPrompts())[19] as number[]).slice(0, promptLength);
});

it('attention keeps partial results of few rows, of a tile none; a pass of more rows than there is room for throws', () => {
  const { forward, config } = models.target;
  const { headCount, headDim } = config;
  expect([forward.rowCapacity, forward.fewCapacity]).toEqual([contextLength, 8]);
  const kept = [...device().buffers].filter(({ label }) => label === 'target partials');
  const blocks = forward.kvCache.blocksPerSlot;
  expect(new Set(kept.map(({ size }) => size))).toEqual(new Set([8 * headCount * blocks * (headDim + 4) * 4]));
  const pass = { setPipeline() {}, setBindGroup() {}, dispatchWorkgroups() {} };
  expect(() => encodeForward(pass, forward, { rows: 9, blocks: 1 }, 1)).toThrow(RangeError);
  expect(() => encodeForward(pass, forward, { rows: 9, blocks: 1 }, 1, { tiled: true })).not.toThrow();
  expect(() => encodeForward(pass, forward, { rows: contextLength + 1, blocks: 1 }, 1, { tiled: true })).toThrow(
    RangeError,
  );
});

/** Bits of the keys and values of every layer, and the logits after the last token. */
type Computed = { kv: Map<string, Uint32Array>; logits: Float32Array };

async function feedInChunks({ forward, config }: Model, tokens: number[], sizes: number[]): Promise<Computed> {
  poison(forward.kvCache);
  let start = 0;
  for (const size of sizes) {
    feed(forward, tokens.slice(start, start + size), start, 1);
    start += size;
  }
  expect(start).toBe(tokens.length);
  const [logits] = await readLogits(forward, config.vocabSize, 1);
  return { kv: await readKv(forward.kvCache, config, tokens.length), logits: logits as Float32Array };
}

const chunksOf = (size: number) =>
  Array.from({ length: Math.ceil(prompt.length / size) }, (_, i) => Math.min(size, prompt.length - i * size));

describe(`a prompt of ${promptLength} tokens`, () => {
  const known = new Map<string, Computed>();
  async function atOnce(name: 'target' | 'draft'): Promise<Computed> {
    const computed = known.get(name) ?? (await feedInChunks(models[name], prompt, [promptLength]));
    known.set(name, computed);
    return computed;
  }

  it.each(['target', 'draft'] as const)(
    '%s: one pass fills every position with finite values of its own',
    async (name) => {
      const { kv } = await atOnce(name);
      expect(kv.size).toBe(models[name].config.layerCount * 2 * promptLength);
      const entries = [...kv.values()];
      const halves = entries.flatMap((bits) => [...new Uint16Array(bits.buffer)]);
      expect(halves.every((half) => (half & 0x7c00) !== 0x7c00)).toBe(true);
      expect(new Set(entries.slice(0, promptLength).map((bits) => bits.join())).size).toBeGreaterThan(promptLength - 5);
    },
  );

  it.each([
    // Up to 8 rows go through the few-rows kernel, more through the tile; the engine's own chunks are below.
    ['target', 'in few rows and in tiles by turns', () => [3, 70, 1, 8, 9, 42, 7]],
    ['draft', 'in few rows and in tiles by turns', () => [9, 1, 64, 2, 33, 8, 23]],
    ['draft', 'in tiles of 13', () => chunksOf(13)],
    ['draft', 'in chunks of 5', () => chunksOf(5)],
    ['draft', 'token by token', () => chunksOf(1)],
  ] as const)('%s, %s: the bits of one pass', async (name, _, sizes) => {
    const { kv, logits } = await feedInChunks(models[name], prompt, sizes());
    const expected = await atOnce(name);
    expect(differences(kv, expected.kv)).toEqual([]);
    expect(bitsOf(logits)).toEqual(bitsOf(expected.logits));
  });
});

describe('the engine’s own loop', () => {
  /** The first 50 tokens of the prompt, then others. */
  const forked = () => [...prompt.slice(0, 50), ...prompt.slice(60, 90)];
  const loopPromptLength = 80; // two blocks
  /** `ks`: of the rounds one after another, from the start again where they end. Decodes `prompts` in turn. */
  async function run(rowCapacity: number, ks: readonly number[], newTokens: number, prompts: readonly number[][]) {
    const gpu = device();
    const { target, draft } = models;
    const { vocabSize } = target.config;
    const forwards = { target: await openForward(target, rowCapacity), draft: await openForward(draft, rowCapacity) };
    for (const { kvCache } of Object.values(forwards)) poison(kvCache);
    const sequences = createSequences(gpu, { slots: 1, contextLength, vocabSize });
    const plan = await createRoundPlan(gpu, forwards, { sequences });
    const ring = createStagingRing(gpu, 'records', 3, readbackBytes(1));
    let chosen = 0;
    const policy: DraftLengthPolicy = {
      next: () => ks[chosen++ % ks.length] as number,
      observe() {},
      startSequence: () => (chosen = 0),
      expectedSpeedup: () => null,
      plainRoundMs: () => 1,
    };
    const batch = createBatch(gpu, plan, sequences, { ring, roundsInFlight: 2 });
    batch.policy = policy;
    let tokens: number[] = [];
    let rejectedCount = 0;
    const cachedCounts: number[] = [];
    for (const promptTokens of prompts) {
      tokens = [...promptTokens];
      const request = {
        promptTokens,
        emittedTokens: [],
        limit: promptTokens.length + newTokens,
        stopTokens: [],
        sampling: greedySampling,
        topLogprobs: 0,
        logprobs: false,
        draftLength: 'auto',
      } as const;
      await decode(batch, 0, request, {
        onStart: (count) => cachedCounts.push(count),
        onRecord(record) {
          tokens.push(...record.tokens);
          rejectedCount += record.draftCount - record.acceptedCount;
          return record;
        },
        isCancelled: () => false,
      });
    }
    return { tokens, rejectedCount, forwards, cachedCounts, fed: batch.slots[0]!.fed };
  }

  const first = () => prompt.slice(0, loopPromptLength);
  it.each([
    { ks: [3], rowCapacity: 24, what: 'drafts in every round', prompts: () => [first()] },
    // Caught up with in few rows, and (the prompt itself) in tiles.
    { ks: [0, 0, 0, 2, 0, 7], rowCapacity: 13, what: 'plain rounds between', prompts: () => [first()] },
    {
      ks: [3],
      rowCapacity: 24,
      what: 'a prompt that shares 50 tokens',
      cached: 50,
      prompts: () => [first(), forked()],
    },
  ])(
    '$what, k of $ks, the prompt in chunks of $rowCapacity: the caches have the bits of one pass',
    async ({ ks, rowCapacity, prompts, cached = 0 }) => {
      const { tokens, rejectedCount, forwards, cachedCounts, fed } = await run(rowCapacity, ks, 16, prompts());
      expect(tokens.length).toBe(loopPromptLength + 16);
      expect(rejectedCount).toBeGreaterThan(0);
      expect(cachedCounts.at(-1)).toBe(cached);
      expect(fed.tokens).toEqual(tokens);
      expect(fed.targetCount).toBe(tokens.length - 1);
      // The last token is in no cache yet, and the one before it not in the draft's after a fully accepted round.
      for (const [name, cachedLength] of [
        ['target', fed.targetCount],
        ['draft', fed.draftCount],
      ] as const) {
        const cached = tokens.slice(0, cachedLength);
        const { kv } = await feedInChunks(models[name], cached, [cachedLength]);
        const { kvCache } = forwards[name];
        expect(differences(await readKv(kvCache, models[name].config, cachedLength), kv)).toEqual([]);
      }
    },
  );
});
