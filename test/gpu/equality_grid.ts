/** Lossless, the promise itself: the embedded pair's tokens do not depend on k, on the rounds in flight, on the kernel. */
import { beforeAll, describe, expect, it } from 'vitest';
import type { KernelKind } from '../../src/kernels/kernel_kind.ts';
import type { Engine, GenerateResult } from '../../src/types.ts';
import { prompts } from '../reference/prompts.ts';
import { embeddedSource, openEngine } from './engine_bench.ts';

export function describeEqualityGrid({
  promptIndices,
  draftLengths,
  variants,
  maxNewTokens,
}: {
  promptIndices: readonly number[];
  draftLengths: readonly number[];
  variants: readonly { roundsInFlight: number; kernelKind: KernelKind }[];
  maxNewTokens: number;
}): void {
  const plainResults = new Map<number, GenerateResult>();

  describe.each(variants)('the embedded pair, $roundsInFlight rounds in flight, few rows by $kernelKind', (variant) => {
    let engine: Engine;
    beforeAll(async () => {
      engine = await openEngine(embeddedSource('stories-3m'), embeddedSource('stories-650k'), {
        ...variant,
      });
    });

    it('says that it is exact', () => {
      expect(engine.info).toMatchObject({ lossless: 'exact', paddedRows: false, ...variant });
    });

    it.each(promptIndices)(`prompt %i, k of ${draftLengths.join(', ')}: the tokens of k = 0`, async (index) => {
      const generate = (draftLength: number) =>
        engine.generate(prompts[index] as string, { draftLength, maxNewTokens }).result;
      // Once per prompt: what the first engine decodes plainly is the measure for all.
      const plain = plainResults.get(index) ?? (await generate(0));
      plainResults.set(index, plain);
      expect(plain.meta_info.spec_verify_ct).toBeUndefined();
      for (const k of draftLengths) {
        const { tokens, text, meta_info: meta } = await generate(k);
        const { finish_reason: finish } = meta;
        expect({ k, tokens, text, finish }).toEqual({
          k,
          tokens: plain.tokens,
          text: plain.text,
          finish: plain.meta_info.finish_reason,
        });
        // A drafter that is never asked would be equal, too.
        expect(meta.spec_num_proposed_drafts).toBeGreaterThanOrEqual(k);
      }
    });
  });
}
