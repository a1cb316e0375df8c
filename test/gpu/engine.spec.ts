import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createEngine } from '../../src/engine.ts';
import { createEngineOn } from '../../src/engine_core.ts';
import { openGpu } from '../../src/gpu/device.ts';
import { folderSource } from '../../src/model/source.ts';
import { parseEngineOptions } from '../../src/options.ts';
import type { Engine } from '../../src/types.ts';
import { readLlamaConfig, readSafetensors } from '../reference/checkpoint.ts';
import { createReferenceModel } from '../reference/forward.ts';
import { referenceSpeculative, teacherForcedGaps } from '../reference/generate.ts';
import { prompts, wideMarginPrompts } from '../reference/prompts.ts';

const base = globalThis.location?.href ?? 'http://localhost/';
const target = new URL('/models/stories-3m/', base).href;
const draft = new URL('/models/stories-650k/', base).href;
const textOf = async (url: string) => (await fetch(url)).text();
const bytesOf = async (url: string) => new Uint8Array(await (await fetch(url)).arrayBuffer());

async function reference(folder: string) {
  const config = readLlamaConfig(JSON.parse(await textOf(`${folder}config.json`)));
  return createReferenceModel(config, readSafetensors(await bytesOf(`${folder}model.safetensors`)));
}

describe('the embedded pair', () => {
  let engine: Engine;
  const generate = (prompt: string | number[], draftLength: number, maxNewTokens = 32) =>
    engine.generate(prompt, { draftLength, maxNewTokens }).result;
  beforeAll(async () => {
    engine = await createEngine({ target, draft });
  });
  afterAll(() => engine.dispose());

  it('is exact: tokens do not depend on k', async () => {
    expect(engine.info.lossless).toBe('exact');
    for (const prompt of [prompts[0], prompts[7], prompts[14]] as string[]) {
      const plain = await generate(prompt, 0);
      expect('spec_accept_rate' in plain.meta_info).toBe(false);
      for (const k of [1, 3, 7]) expect((await generate(prompt, k)).tokens).toEqual(plain.tokens);
    }
  });

  it('speculates as the float64 twin does: tokens, rates and histogram', async () => {
    const [targetTwin, draftTwin] = [await reference(target), await reference(draft)];
    const prompt = prompts[wideMarginPrompts[0] as number] as string;
    const { tokenizerTokens } = await promptTokens(prompt);
    const k = 3;
    const result = await generate(tokenizerTokens, k);
    const twin = referenceSpeculative(targetTwin, draftTwin, tokenizerTokens, 32, k, [0]);
    expect(result.tokens).toEqual(twin.tokens);
    const accepted = twin.rounds.reduce((sum, round) => sum + round.acceptedCount, 0);
    const drafted = twin.rounds.reduce((sum, round) => sum + round.draftCount, 0);
    expect(result.meta_info.spec_accept_rate).toBe(accepted / drafted);
    expect(accepted / drafted).toBeGreaterThan(0.4); // a silent drop to nothing leaves every text correct
    const gaps = teacherForcedGaps(targetTwin, tokenizerTokens, result.tokens);
    expect(Math.max(...gaps)).toBeLessThan(1e-3);
  });

  it('submits once, maps 64 bytes once and creates nothing per round', async () => {
    const counts = { submit: 0, map: 0, create: 0, bytes: 0 };
    const wrapped: [object, string, PropertyDescriptor][] = [];
    const wrap = (prototype: object, name: string, count: (...args: unknown[]) => void) => {
      const descriptor = Object.getOwnPropertyDescriptor(prototype, name) as PropertyDescriptor;
      wrapped.push([prototype, name, descriptor]);
      const original = descriptor.value as (...args: unknown[]) => unknown;
      Object.defineProperty(prototype, name, {
        ...descriptor,
        value(this: unknown, ...args: unknown[]) {
          count(...args);
          return original.apply(this, args);
        },
      });
    };
    wrap(GPUQueue.prototype, 'submit', () => counts.submit++);
    wrap(GPUBuffer.prototype, 'mapAsync', (_mode, _offset, size) => {
      counts.map++;
      counts.bytes = Math.max(counts.bytes, size as number);
    });
    for (const name of ['createBuffer', 'createBindGroup', 'createComputePipeline', 'createComputePipelineAsync']) {
      wrap(GPUDevice.prototype, name, () => counts.create++);
    }
    try {
      const result = await generate(prompts[0] as string, 1, 60);
      // The prefill is one submit and one map more; a round past the end may be in flight.
      const rounds = result.stats.roundCount + 1;
      expect(rounds).toBeGreaterThan(25);
      await engine.metrics();
      expect(counts.submit).toBeGreaterThanOrEqual(rounds);
      expect(counts.submit).toBeLessThanOrEqual(rounds + 1);
      expect(counts.map).toBe(counts.submit);
      expect(counts.bytes).toBe(64);
      expect(counts.create).toBe(0);
    } finally {
      for (const [prototype, name, descriptor] of wrapped) Object.defineProperty(prototype, name, descriptor);
    }
  });

  async function promptTokens(prompt: string) {
    const { createTokenizer } = await import('../../src/model/tokenizer.ts');
    const json = JSON.parse(await textOf(`${target}tokenizer.json`));
    const config = JSON.parse(await textOf(`${target}tokenizer_config.json`));
    return { tokenizerTokens: createTokenizer(json, config, 'tokenizer.json').encode(prompt) };
  }
});

it('the target as its own draft accepts everything, with three rounds in flight', async () => {
  const options = parseEngineOptions({ target, draft: target, roundsInFlight: 3 });
  const engine = await createEngineOn(await openGpu(), folderSource(target), folderSource(target), options);
  try {
    const [k, n] = [3, 40];
    const result = await engine.generate(prompts[0] as string, { draftLength: k, maxNewTokens: n }).result;
    expect(result.meta_info.spec_accept_rate).toBe(1);
    expect(result.stats.roundCount).toBeLessThanOrEqual(Math.ceil(n / (k + 1)) + 1);
  } finally {
    await engine.dispose();
  }
});
