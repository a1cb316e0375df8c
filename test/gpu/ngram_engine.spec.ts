/** Drafts looked up in the text, through the whole engine: no model, no lost token, and a miss that counts as plain. */
import { beforeAll, describe, expect, it } from 'vitest';
import type { Engine, GenerateOptions } from '../../src/types.ts';
import { ngramDrafts } from '../reference/ngram.ts';
import { embeddedPrompts, embeddedSource, openEngine } from './engine_bench.ts';

describe('the embedded target with a lookup', () => {
  let engine: Engine;
  let prompts: number[][];
  beforeAll(async () => {
    engine = await openEngine(embeddedSource('stories-3m'), null, { draft: { method: 'ngram' } });
    prompts = await embeddedPrompts();
  });
  const generate = (prompt: number[], options: GenerateOptions) => engine.generate(prompt, options).result;

  it('says what drafts', () => {
    expect(engine.info).toMatchObject({ drafter: 'ngram', draft: null });
    // One dispatch more than plain decoding, whatever k.
    const [plain, ...others] = engine.info.dispatchesPerRound as [number, ...number[]];
    expect(others).toEqual(new Array(7).fill(plain + 1));
  });

  it.each([[{}], [{ temperature: 0.8, seed: 11, repetitionPenalty: 1.1 }]])(
    '%o: the tokens of plain decoding, the rounds of the twin',
    async (options) => {
      const prompt = [...(prompts[0] as number[]), ...(prompts[0] as number[])]; // the text repeats it once more
      const plain = await generate(prompt, { ...options, draftLength: 0, maxNewTokens: 12 });
      for (const draftLength of [2, 7]) {
        const { tokens, stats } = await generate(prompt, { ...options, draftLength, maxNewTokens: 12 });
        expect(tokens).toEqual(plain.tokens);
        // What the lookup must have found and the target kept, round by round.
        const text = [...prompt, ...tokens];
        let [length, drafted, accepted, misses] = [prompt.length + 1, 0, 0, 0];
        while (length < text.length) {
          const drafts = ngramDrafts(text.slice(0, length), { draftLength, shortest: 2, longest: 4 });
          let kept = 0;
          while (kept < drafts.length && drafts[kept] === text[length + kept]) kept += 1;
          // The last round's drafts may agree with tokens that were never emitted.
          if (length + kept < text.length) accepted += kept;
          drafted += drafts.length;
          misses += Number(drafts.length === 0);
          length += kept + 1;
        }
        expect(stats.draftedCount).toBe(drafted);
        expect(stats.plainCount).toBe(misses);
        expect(stats.acceptedCount).toBeGreaterThanOrEqual(accepted);
      }
    },
  );

  it('accepts nearly everything of a text that repeats itself, and samples without a seed', async () => {
    const loop = Array.from({ length: 60 }, (_, i) => 300 + (i % 6));
    const bias = Object.fromEntries(loop.slice(0, 6).map((token) => [token, 30]));
    const result = await generate(loop, { maxNewTokens: 30, draftLength: 5, logitBias: bias, temperature: 0.5 });
    expect(result.tokens.every((token) => token >= 300 && token < 306)).toBe(true);
    expect(result.stats.draftedCount).toBeGreaterThan(10);
  });
});
