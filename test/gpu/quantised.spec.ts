/** Engines with weights of 8 and 4 bits: as exact as any, a little different from f16, and smaller. */
import { beforeAll, describe, expect, it } from 'vitest';
import type { Engine } from '../../src/types.ts';
import type { ReferenceModel } from '../reference/forward.ts';
import { teacherForcedGaps } from '../reference/generate.ts';
import { embeddedPrompts, embeddedSource, embeddedTwin, openEngine } from './engine_bench.ts';

// The twin has the file's own weights; a logit of the embedded pair moves by so much when they are rounded.
describe.each([
  ['q8', 0.15, 0.7],
  ['q4', 1.5, 0.6],
] as const)('%s', (dtype, largestGap, largestShare) => {
  let engine: Engine;
  let twin: ReferenceModel;
  let prompts: number[][];
  beforeAll(async () => {
    engine = await openEngine(embeddedSource('stories-3m'), embeddedSource('stories-650k'), { dtype });
    twin = await embeddedTwin('stories-3m');
    prompts = await embeddedPrompts();
  });

  it('gives the tokens of plain decoding, near those of the file’s own weights', async () => {
    const prompt = prompts[0] as number[];
    const plain = await engine.generate(prompt, { draftLength: 0, maxNewTokens: 20 }).result;
    for (const draftLength of [2, 7]) {
      const { tokens, stats } = await engine.generate(prompt, { draftLength, maxNewTokens: 20 }).result;
      expect({ draftLength, tokens }).toEqual({ draftLength, tokens: plain.tokens });
      expect(stats.acceptedCount).toBeGreaterThan(5);
    }
    const gaps = teacherForcedGaps(twin, prompt, plain.tokens);
    console.log(dtype, Math.max(...gaps), engine.info.target.weightBytes / (2 * engine.info.target.parameterCount));
    expect(Math.max(...gaps)).toBeLessThan(largestGap);
  });

  it('takes less memory', () => {
    const { weightBytes, parameterCount } = engine.info.target;
    expect(engine.info.dtype).toBe(dtype);
    expect(weightBytes / (2 * parameterCount)).toBeLessThan(largestShare);
  });
});
