/** A draft that proposes the first ids of its vocabulary only: the text stays, and its head computes no other logits. */
import { beforeAll, describe, expect, it } from 'vitest';
import { checkPair } from '../../src/check_model.ts';
import { WebGPUUnavailableError } from '../../src/errors.ts';
import { packedBytes } from '../../src/kernels/packed.ts';
import { createForward } from '../../src/model/forward.ts';
import { openModel, readWeights } from '../../src/model/load.ts';
import { uploadWeights, weightFormats } from '../../src/model/weights.ts';
import type { Engine, GenerateOptions } from '../../src/types.ts';
import { type LlamaConfigJson, readLlamaConfig, readSafetensors } from '../reference/checkpoint.ts';
import { createReferenceModel, type ReferenceModel } from '../reference/forward.ts';
import { referenceSpeculativeSampled, type SampledSpeculativeResult } from '../reference/generate_sampled.ts';
import { prompts } from '../reference/prompts.ts';
import { randomModel } from '../reference/random_model.ts';
import { noWarping, type SamplingOptions } from '../reference/warp.ts';
import {
  embeddedSource,
  memorySource,
  openEngine,
  randomFolder,
  withoutLastLayer,
  withSeedWords,
} from './engine_bench.ts';
import { bitsOf, feed, readLogits } from './forward_bench.ts';
import { device, readUints } from './kernel_bench.ts';

describe('the head', () => {
  it.each([
    ['f16', false],
    ['q8', true],
    ['q4', false],
  ] as const)('of %s, tied: %s, in one part and in several: the bits of the whole head', async (dtype, tied) => {
    const model = randomModel({ vocab_size: 259, tie_word_embeddings: tied }, 81);
    const files = await openModel(memorySource('random', randomFolder(model)), 'draft');
    const { vocabSize, hiddenSize } = files.config;
    const formats = weightFormats(files, dtype);
    const { words } = packedBytes({ outputSize: vocabSize, inputSize: hiddenSize }, formats(['lm_head.weight']));
    const tokens = [258, 3, 17, 250, 258, 100, 99, 101];
    const logitsOf = async (partBytes: number, headTokens: number | null) => {
      const weights = await uploadWeights(device(), 'random', files, readWeights(files, 'draft'), formats, {
        partBytes,
      });
      const size = { slots: 1, contextLength: 64, rowCapacity: 8, paddedRows: false };
      const forward = await createForward(device(), 'random', files.config, weights, { ...size, headTokens });
      feed(forward, tokens, 0, 8);
      const needed = weights.head.filter(({ firstRow }) => firstRow < forward.vocabSize).length;
      expect(forward.head.length).toBe(needed);
      expect(forward.logits.size).toBe(8 * forward.vocabSize * 4);
      const bits = (await readLogits(forward, forward.vocabSize, 8)).map(bitsOf);
      return { bits, parts: weights.head, headTokens: forward.vocabSize };
    };
    const whole = await logitsOf(Infinity, null);
    expect(whole).toMatchObject({ headTokens: vocabSize, parts: { length: 1 } });
    for (const partBytes of [Infinity, words / 3]) {
      const { parts } = await logitsOf(partBytes, null);
      expect(parts.length > 2).toBe(partBytes < Infinity);
      const second = parts[1]?.firstRow ?? 64;
      for (const headTokens of [1, second - 1, second, second + 1, 257, vocabSize, 1000]) {
        const limited = await logitsOf(partBytes, headTokens);
        expect(limited.headTokens).toBe(Math.min(headTokens, vocabSize));
        expect(limited.bits).toEqual(whole.bits.map((row) => row.subarray(0, headTokens)));
      }
    }
  });
});

describe('a random pair', () => {
  const [vocabSize, headTokens] = [1300, 700];
  const prompt = [5, 1250, 17];
  const maxNewTokens = 24;
  const target = randomModel({ vocab_size: vocabSize }, 82);
  const draft = withoutLastLayer(target);
  const twinOf = ({ configJson, safetensors }: typeof draft) =>
    createReferenceModel(readLlamaConfig(configJson as LlamaConfigJson), readSafetensors(safetensors), {
      matricesAsFloat16: true,
      cacheAsFloat16: true,
    });
  /** The twin of a draft whose head has no further rows. */
  const limited = (model: ReferenceModel): ReferenceModel => ({
    ...model,
    forward: (tokens, start) => model.forward(tokens, start).map((row) => row.subarray(0, headTokens)),
  });
  let engine: Engine;
  /** The last draft of each request. */
  let sampled: GPUBuffer;
  beforeAll(async () => {
    const before = new Set(device().buffers);
    const source = memorySource('draft', randomFolder(draft));
    engine = await openEngine(memorySource('target', randomFolder(target)), source, {
      draft: { model: source.url, headTokens },
    });
    sampled = [...device().buffers].find((buffer) => !before.has(buffer) && buffer.label === 'draft sampled')!;
  });

  it('is what `info` says', () => {
    expect(engine.info.draft).toMatchObject({ vocabSize, headTokens });
    expect(engine.info.target).toMatchObject({ vocabSize, headTokens: vocabSize });
  });

  const cases: [string, Partial<SamplingOptions>, Partial<GenerateOptions>, 'coupled' | 'rejection'][] = [
    ['greedy', { temperature: 0 }, {}, 'coupled'],
    ['greedy with penalties', { temperature: 0, repetitionPenalty: 1.3 }, { repetitionPenalty: 1.3 }, 'coupled'],
    ['seeded', { temperature: 1 }, { temperature: 1, seed: 7 }, 'coupled'],
    [
      'seeded, top-k above the draft’s tokens, a bias on either side',
      {
        temperature: 0.9,
        topK: 900,
        logitBias: [
          [17, 4],
          [1200, 4],
        ],
      },
      { temperature: 0.9, seed: 7, topK: 900, logitBias: { 17: 4, 1200: 4 } },
      'coupled',
    ],
    ['unseeded', { temperature: 1 }, { temperature: 1 }, 'rejection'],
    [
      'unseeded, filtered',
      { temperature: 1.2, topK: 900, minP: 0.001 },
      { temperature: 1.2, topK: 900, minP: 0.001 },
      'rejection',
    ],
  ];
  it.each(cases)('%s: the tokens of the twin, round by round', async (_, warping, options, mode) => {
    const seed = [options.seed ?? 3, 0] as const;
    const draftLength = 3;
    const request = {
      promptTokens: prompt,
      maxNewTokens,
      contextLength: 256,
      options: { ...noWarping, ...warping },
      seed,
    };
    const expected: SampledSpeculativeResult = referenceSpeculativeSampled(
      twinOf(target),
      limited(twinOf(draft)),
      request,
      draftLength,
      mode,
    );
    expect(expected.margin).toBeGreaterThan(1e-6);
    const rounds: { draftCount: number; acceptedCount: number; committedCount: number }[] = [];
    const generate = (k: number) => engine.generate(prompt, { ...options, maxNewTokens, draftLength: k });
    const { tokens } = await withSeedWords(seed, async () => {
      const run = generate(draftLength);
      for await (const { tokens: committed, stats } of run) {
        if (stats.phase === 'prefill') continue;
        const { draftLength: draftCount, acceptedCount } = stats;
        rounds.push({ draftCount, acceptedCount, committedCount: committed.length });
        for (const token of committed.slice(0, acceptedCount)) expect(token).toBeLessThan(headTokens);
      }
      return run.result;
    });
    expect(tokens).toEqual(expected.tokens);
    expect(rounds).toEqual(expected.rounds);
    expect(rounds.reduce((sum, { acceptedCount }) => sum + acceptedCount, 0)).toBeGreaterThan(0);
    expect(Math.max(...tokens)).toBeGreaterThanOrEqual(headTokens);
    if (mode === 'coupled') expect((await generate(0).result).tokens).toEqual(tokens);
  });

  it('proposes nothing else, however likely it is', async () => {
    for (const options of [{}, { temperature: 1, seed: 5 }, { temperature: 1 }] satisfies GenerateOptions[]) {
      const rateOf = async (token: number) => {
        const run = engine.generate(prompt, { ...options, logitBias: { [token]: 100 }, maxNewTokens, draftLength: 3 });
        const { tokens, meta_info: meta } = await run.result;
        expect(tokens).toEqual(new Array(maxNewTokens).fill(token));
        const drafts = await readUints(sampled);
        for (const draft of drafts) expect(draft).toBeLessThan(headTokens);
        return meta.spec_accept_rate;
      };
      expect(await rateOf(headTokens)).toBe(0);
      expect(await rateOf(vocabSize - 1)).toBe(0);
      expect(await rateOf(headTokens - 1)).toBe(1);
    }
  });
});

describe('the embedded pair', () => {
  const [target, source] = [embeddedSource('stories-3m'), embeddedSource('stories-650k')];
  /** An engine, and what it takes of the device that the specs share. */
  const open = async (headTokens: number | null): Promise<{ engine: Engine; sizeBytes: number }> => {
    const { bytes } = device();
    const draft = headTokens === null ? source.url : { model: source.url, headTokens };
    const engine = await openEngine(target, source, { draft });
    return { engine, sizeBytes: engine.info.gpuBytes - bytes };
  };
  const modes = [{}, { temperature: 0.8, seed: 11 }, { temperature: 0.8 }] satisfies GenerateOptions[];
  type Decoded = { tokens: number[]; acceptedCount: number };
  /** One request of each mode, all at once. */
  const decode = (engine: Engine, draftLength: number): Promise<Decoded[]> =>
    withSeedWords([9, 1], () =>
      Promise.all(
        modes.map(async (mode, i) => {
          const request = { ...mode, maxNewTokens: 16, draftLength };
          const { tokens, stats } = await engine.generate(prompts[i] as string, request).result;
          return { tokens, acceptedCount: stats.acceptedCount };
        }),
      ),
    );
  const acceptedOf = (runs: readonly Decoded[]) => runs.reduce((sum, { acceptedCount }) => sum + acceptedCount, 0);
  let whole: Engine;
  let wholeBytes: number;
  let expected: Decoded[];
  beforeAll(async () => {
    ({ engine: whole, sizeBytes: wholeBytes } = await open(null));
    expected = await decode(whole, 3);
  });

  it('512 tokens: the text of plain decoding, greedy and seeded', async () => {
    const headTokens = 512;
    const { engine } = await open(headTokens);
    expect(engine.info.draft?.headTokens).toBe(headTokens);
    expect(engine.info.draft?.weightBytes).toBe(whole.info.draft?.weightBytes);
    const [plain, drafted] = [await decode(engine, 0), await decode(engine, 3)];
    for (const i of [0, 1]) {
      expect(drafted[i]?.tokens).toEqual(plain[i]?.tokens);
      expect(drafted[i]?.tokens).toEqual(expected[i]?.tokens);
    }
    expect(acceptedOf(drafted)).toBeLessThan(acceptedOf(expected));
    for (const { acceptedCount } of drafted) expect(acceptedCount).toBeGreaterThan(0);
  });

  it('a million tokens of 2,048: every token and every draft of the whole head', async () => {
    const { engine, sizeBytes } = await open(1_000_000);
    expect(await decode(engine, 3)).toEqual(expected);
    expect(engine.info.draft).toEqual(whole.info.draft);
    expect(sizeBytes).toBe(wholeBytes);
  });

  it('takes the GPU memory that a check foretells, to the byte', async () => {
    const { engine, sizeBytes } = await open(700);
    const { contextLength, roundsInFlight, maxRunningRequests } = engine.info;
    const options = { contextLength, roundsInFlight, maxRunningRequests, ngram: null, signal: null, dtype: null };
    const check = await checkPair(new WebGPUUnavailableError('not asked for'), target, source, {
      ...options,
      headTokens: 700,
    });
    expect(check.gpuBytes.total).toBe(sizeBytes);
    expect(sizeBytes).toBeLessThan(wholeBytes);
  });
});
