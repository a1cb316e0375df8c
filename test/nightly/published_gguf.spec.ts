/**
 * Two published GGUF files that nobody here made, against transformers on the same files
 * (test/reference/tools/make_published_gguf.py): token ids, greedy tokens, margins, chats, speculation.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkPair } from '../../src/check_model.ts';
import { UnsupportedModelError } from '../../src/errors.ts';
import { openGpu } from '../../src/gpu/device.ts';
import { fileSource } from '../../src/model/file_source.ts';
import { openModel } from '../../src/model/load.ts';
import type { OpenedModel } from '../../src/model/opened_model.ts';
import { type ModelSource, urlSource } from '../../src/model/source.ts';
import { parseEngineOptions } from '../../src/options.ts';
import type { Engine } from '../../src/types.ts';
import { openEngine } from '../gpu/engine_bench.ts';
import gemma3 from '../reference/data/published_gguf/gemma3.json';
import smollm2 from '../reference/data/published_gguf/smollm2.json';
import { withFirstLayers } from '../reference/shallow_gguf.ts';
import { howToFetch, modelsFolder, publishedModels } from './published_models.mjs';

type Published = keyof typeof publishedModels;
/** `margins`: of each token over the second, in logits, in float32. */
type Message = { role: 'system' | 'user' | 'assistant'; content: string };
type Continuation = { ids: number[]; tokens: number[]; margins: number[]; text: string };

type Expected = {
  texts: { text: string; ids: number[] }[];
  prompts: (Continuation & { prompt: string })[];
  long: (Continuation & { prompt: string }) | null;
  chats: (Continuation & { messages: Message[]; rendered: string })[];
};

const inNode = 'process' in globalThis && Boolean(globalThis.process.versions?.node);
const page = globalThis.location?.href ?? 'http://localhost/';
const urlOf = (name: Published) => `/${modelsFolder}/${publishedModels[name].file}`;

async function published(name: Published): Promise<ModelSource> {
  const response = await fetch(urlOf(name), { headers: { range: 'bytes=0-3' } });
  const start = new TextDecoder().decode((await response.arrayBuffer()).slice(0, 4));
  if (start !== 'GGUF') throw new Error(`Expected the file ${urlOf(name).slice(1)}, got none. ${howToFetch}`);
  return urlSource(urlOf(name), page);
}

/**
 * Where a margin is smaller, another token may win. Ours differ from the reference's because weights of Q4_1, Q5_0, Q4_K
 * and Q6_K are rounded to 8 bits and keys and values to 16.
 */
const nearTie = 0.25;
/** Half of our margins are closer to the reference's than this. A wrong rotation, norm or block type moves them by more than 1. */
const usualDifference = 0.15;
/** Of SmolLM2's 30. With 20 of them 5 of 123 drafts are accepted. */
const draftLayers = 28;
/** So many prompts share each round, whose matrices are then read once for all. */
const maxRunningRequests = 8;

const cases = [
  { name: 'smollm2', expected: smollm2 as unknown as Expected, parameterCount: 134_515_008, contextLength: 256 },
  { name: 'gemma3', expected: gemma3 as unknown as Expected, parameterCount: 268_098_176, contextLength: 640 },
] as const;

describe.each(cases)('$name', ({ name, expected, parameterCount, contextLength }) => {
  let source: ModelSource;
  let model: OpenedModel;
  let engine: Engine;
  beforeAll(async () => {
    source = await published(name);
    model = await openModel(source, 'target');
    const options = { contextLength, maxRunningRequests };
    // SmolLM2 drafts with its own first layers, Gemma looks its drafts up.
    if (name === 'smollm2') {
      const file = new Uint8Array(await (await fetch(urlOf(name))).arrayBuffer());
      const draft = fileSource(new File([withFirstLayers(file, draftLayers)], 'shallow.gguf'));
      engine = await openEngine(source, draft, { ...options, draft: 'shallow.gguf' }, await openGpu());
    } else {
      engine = await openEngine(source, null, { ...options, draft: { method: 'ngram' } }, await openGpu());
    }
    console.log(
      `${name}: loaded in ${Math.round(engine.info.loadTimeMs)} ms, ${engine.info.gpuBytes} bytes on the GPU`,
    );
  });
  afterAll(() => engine?.dispose());

  /** Our own greedy tokens after the first `begin` of the reference's, as long as they are the reference's. */
  const decodeAlong = async ({ ids, tokens }: Continuation, begin: number) => {
    const options = { maxNewTokens: tokens.length - begin, draftLength: 0, ignoreEos: true } as const;
    const prompt = [...ids, ...tokens.slice(0, begin)];
    const margins: number[] = [];
    for await (const round of engine.generate(prompt, { ...options, logprobs: true, topLogprobs: 2 })) {
      for (const [i, token] of round.tokens.entries()) {
        if (token !== tokens[begin + margins.length]) return margins;
        const [first, second] = round.logprobs![i]!.top;
        margins.push(first!.logprob - second!.logprob);
      }
    }
    return margins;
  };

  /** Goes along the reference's tokens. Where another one won, which must be a near tie, it goes on from theirs. */
  const expectNear = async (continuations: readonly Continuation[]) => {
    const differences: number[] = [];
    const lost: number[] = [];
    const follow = async (continuation: Continuation) => {
      const { tokens, margins } = continuation;
      for (let at = 0; at < tokens.length; at++) {
        const ours = await decodeAlong(continuation, at);
        for (const margin of ours) differences.push(Math.abs(margin - (margins[at++] as number)));
        if (at < tokens.length) lost.push(margins[at] as number);
      }
    };
    await Promise.all(continuations.map(follow));
    const sorted = differences.toSorted((a, b) => a - b);
    const [middle, most] = [sorted[sorted.length >> 1] as number, sorted.at(-1) as number];
    console.log(
      `${name}: ${differences.length} tokens as in the reference, ${lost.length} others (margins there ${lost.join(', ')}); ` +
        `margins differ by ${middle.toFixed(3)} (median), ${most.toFixed(3)} (most)`,
    );
    for (const margin of lost) expect(margin).toBeLessThan(nearTie);
    expect(middle).toBeLessThan(usualDifference);
    expect(lost.length).toBeLessThan(0.1 * differences.length);
  };

  it('ids and texts of the reference tokenizer', () => {
    const { tokenizer } = model;
    for (const { text, ids } of expected.texts) {
      expect({ text, ids: tokenizer.encodeRendered(text) }).toEqual({ text, ids });
      expect(tokenizer.decode(ids)).toBe(text);
    }
    for (const { prompt, ids, tokens, text } of expected.prompts) {
      expect({ prompt, ids: tokenizer.encode(prompt) }).toEqual({ prompt, ids });
      expect(tokenizer.decode(tokens)).toBe(text);
    }
  });

  it('checkModel foretells what loading takes', async () => {
    const { dtype, ...limits } = parseEngineOptions({ target: 'a file', contextLength, maxRunningRequests });
    const adapter = (await navigator.gpu.requestAdapter()) as GPUAdapter;
    const check = await checkPair(adapter, source, null, { ...limits, dtype });
    expect(check).toMatchObject({ fits: true, problems: [], downloadBytes: publishedModels[name].sizeBytes });
    expect(check.target).toMatchObject({ parameterCount, hasChatTemplate: expected.chats.length > 0 });
    expect(check.gpuBytes.weights).toBe(engine.info.target.weightBytes);
    expect(engine.info.target.parameterCount).toBe(parameterCount);
  });

  it('20 prompts: the likeliest token', () =>
    expectNear(expected.prompts.map((prompt) => ({ ...prompt, tokens: prompt.tokens.slice(0, 1) }))));

  it('5 prompts: 32 greedy tokens', () => expectNear(expected.prompts.filter(({ tokens }) => tokens.length === 32)));

  it('speculation changes no token', async () => {
    let [draftedCount, acceptedCount] = [0, 0];
    const compare = async ({ ids }: Continuation) => {
      const generate = (draftLength: number) =>
        engine.generate(ids, { draftLength, maxNewTokens: 16, ignoreEos: true }).result;
      const [plain, speculative] = await Promise.all([generate(0), generate(3)]);
      expect(speculative.tokens).toEqual(plain.tokens);
      draftedCount += speculative.stats.draftedCount;
      acceptedCount += speculative.stats.acceptedCount;
    };
    const indices = name === 'smollm2' ? [0, 2] : [1, 3];
    await Promise.all(indices.map((index) => compare(expected.prompts[index] as Continuation)));
    console.log(`${name}: ${acceptedCount} of ${draftedCount} drafts accepted`);
    expect(acceptedCount).toBeGreaterThan(5);
    // What Gemma repeats, it repeats in full.
    if (name === 'smollm2') expect(acceptedCount).toBeLessThan(draftedCount);
  });

  it('a chat: rendered and tokenised as in the reference, ended by the end of the turn', async () => {
    if (expected.chats.length === 0) {
      const messages = [{ role: 'user', content: 'Hello' } as const];
      await expect(engine.chat.completions.create({ messages })).rejects.toThrow(UnsupportedModelError);
      return;
    }
    for (const { messages, ids } of expected.chats) {
      expect((await engine.chat.applyTemplate(messages)).tokens).toEqual(ids);
    }
    const firm = expected.chats.filter(({ margins }) => Math.min(...margins) > nearTie);
    expect(firm.length).toBeGreaterThan(0);
    for (const { messages, ids, tokens, text } of firm) {
      const reply = await engine.chat.completions.create({ messages, temperature: 0, max_tokens: 48 });
      expect(reply.choices[0]).toMatchObject({ finish_reason: 'stop', message: { content: text } });
      expect(reply.usage).toMatchObject({ prompt_tokens: ids.length, completion_tokens: tokens.length });
    }
  });

  // Minutes, and nothing that a browser does otherwise.
  if (expected.long !== null && inNode) {
    it('a prompt beyond the sliding window', () => expectNear([expected.long as Continuation]));
  }
});
