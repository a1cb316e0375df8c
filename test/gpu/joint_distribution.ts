/** What a request without a seed draws, through the whole engine, against the exact distribution of the float64 twin. */
import { beforeAll, describe, expect, it } from 'vitest';
import type { Engine, GenerateOptions } from '../../src/types.ts';
import type { ReferenceModel } from '../reference/forward.ts';
import { gTest, significance } from '../reference/g_test.ts';
import { logitsAfter } from '../reference/generate.ts';
import { referenceDistribution } from '../reference/sample.ts';
import { noWarping } from '../reference/warp.ts';
import { embeddedPrompts, embeddedSource, embeddedTwin, openEngine } from './engine_bench.ts';

export const jointCells: readonly [options: GenerateOptions, draftLength: number][] = [
  [{ temperature: 1, topK: 4, topP: 0.95 }, 2],
  [{ temperature: 0.7, topK: 3 }, 3],
  [{ temperature: 1.4, topK: 3, minP: 0.02 }, 7],
];

/** The engine draws its seeds from crypto; counted ones make a test the same every time. @returns what undoes it */
function countSeeds(): () => void {
  const original = crypto.getRandomValues;
  let count = 0;
  crypto.getRandomValues = ((words: Uint32Array) => {
    count += 1;
    words.set([count, 77]);
    return words;
  }) as typeof crypto.getRandomValues;
  return () => {
    crypto.getRandomValues = original;
  };
}

export function describeJoint({ cells, runCount }: { cells: typeof jointCells; runCount: number }): void {
  describe(`${runCount} requests without a seed`, () => {
    let engine: Engine;
    let twin: ReferenceModel;
    let prompt: number[];
    beforeAll(async () => {
      engine = await openEngine(embeddedSource('stories-3m'), embeddedSource('stories-650k'));
      twin = await embeddedTwin('stories-3m');
      prompt = (await embeddedPrompts())[2] as number[];
    });

    it.each(cells)(
      '%o, k = %i: the joint of three tokens follows the target’s distribution',
      async (options, draftLength) => {
        const joint = new Map<string, number>();
        const walk = (sequence: readonly number[], probability: number, depth: number): void => {
          if (depth === 0) {
            joint.set(sequence.slice(prompt.length).join(), probability);
            return;
          }
          const distribution = referenceDistribution(logitsAfter(twin, sequence), {
            ...noWarping,
            ...options,
          } as typeof noWarping);
          for (const [token, p] of distribution.entries())
            if (p > 0) walk([...sequence, token], probability * p, depth - 1);
        };
        walk(prompt, 1, 3);
        const counts = new Map([...joint.keys()].map((key) => [key, 0]));
        const restore = countSeeds();
        try {
          for (let run = 0; run < runCount; run++) {
            // Four tokens: the second and third come from one round, unless its first draft is refused.
            const { tokens } = await engine.generate(prompt, { ...options, draftLength, maxNewTokens: 4 }).result;
            const key = tokens.slice(0, 3).join();
            counts.set(key, (counts.get(key) ?? Number.NaN) + 1); // NaN: a triple that the target cannot give
          }
        } finally {
          restore();
        }
        const keys = [...joint.keys()];
        expect([...counts.keys()]).toEqual(keys);
        const { pValue } = gTest(
          keys.map((key) => counts.get(key) as number),
          keys.map((key) => joint.get(key) as number),
        );
        expect(pValue).toBeGreaterThan(significance);
      },
    );
  });
}
