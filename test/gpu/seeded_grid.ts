/** A seeded request is one text: whatever k, whoever drafts. Penalties and bias change no more than that. */
import { beforeAll, describe, expect, it } from 'vitest';
import type { Engine, GenerateOptions } from '../../src/types.ts';
import { prompts } from '../reference/prompts.ts';
import { createRandom } from '../reference/random.ts';
import { randomModel } from '../reference/random_model.ts';
import { embeddedFiles, embeddedSource, memorySource, openEngine, randomFolder } from './engine_bench.ts';

/** Request `index` of a fixed list that walks through the options: mild and strong, alone and together. */
export function randomRequest(index: number, maxNewTokens: number): { prompt: string; options: GenerateOptions } {
  const random = createRandom(1000 + index);
  const maybe = <T>(chance: number, value: T): T | undefined => (random.uniform() < chance ? value : undefined);
  const options = {
    maxNewTokens,
    temperature: [0, 0.5, 0.8, 1, 1.3][random.integer(5)] as number,
    seed: random.integer(2 ** 32) * 2 ** 20 + random.integer(2 ** 20),
    topK: maybe(0.4, 1 + random.integer(60)),
    topP: maybe(0.4, 0.3 + 0.69 * random.uniform()),
    minP: maybe(0.3, 0.2 * random.uniform()),
    repetitionPenalty: maybe(0.3, 1 + 0.5 * random.uniform()),
    presencePenalty: maybe(0.3, random.uniform()),
    frequencyPenalty: maybe(0.3, random.uniform()),
    logitBias: maybe(0.3, { [random.integer(2048)]: 4, [random.integer(2048)]: -100 }),
    minNewTokens: maybe(0.3, random.integer(maxNewTokens)),
  };
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  return { prompt: prompts[random.integer(prompts.length)] as string, options: given as GenerateOptions };
}

export function describeSeededGrid({
  requestCount,
  draftLengths,
  maxNewTokens,
}: {
  requestCount: number;
  draftLengths: readonly number[];
  maxNewTokens: number;
}): void {
  describe('seeded and adjusted requests', () => {
    const engines: Record<string, Engine> = {};
    beforeAll(async () => {
      const target = embeddedSource('stories-3m');
      const tokenizer = await embeddedFiles('stories-3m', ['tokenizer.json', 'tokenizer_config.json']);
      const noise = randomModel({ vocab_size: 2048, num_hidden_layers: 1, max_position_embeddings: 1024 }, 43);
      engines.drafted = await openEngine(target, embeddedSource('stories-650k'));
      engines.misled = await openEngine(target, memorySource('noise', randomFolder(noise, tokenizer)), {
        roundsInFlight: 3,
        kernelKind: 'lane',
      });
      engines.plain = await openEngine(target, null);
    });

    let accepted = 0;
    const texts = new Set<string>();
    const indices = Array.from({ length: requestCount }, (_, index) => index);
    it.each(indices)(`request %i, k of ${draftLengths.join(', ')}, three drafters: one text`, async (index) => {
      const { prompt, options } = randomRequest(index, maxNewTokens);
      const tokensOf = async (drafter: string, draftLength: number) => {
        const engine = engines[drafter] as Engine;
        const { tokens, stats } = await engine.generate(prompt, { ...options, draftLength }).result;
        accepted += stats.acceptedCount;
        return tokens;
      };
      const plain = await tokensOf('plain', 0);
      texts.add(plain.join());
      for (const k of draftLengths) {
        for (const drafter of ['drafted', 'misled']) {
          expect({ drafter, k, tokens: await tokensOf(drafter, k) }).toEqual({ drafter, k, tokens: plain });
        }
      }
    });

    it('accepted some, and were of many texts: else all would be equal too', () => {
      expect(accepted).toBeGreaterThan(requestCount);
      expect(texts.size).toBeGreaterThan(requestCount * 0.8);
    });
  });
}
