/** Every model family from files that Hugging Face wrote, through the library's own loader: logits, tokens, speculation. */
import { beforeAll, describe, expect, it } from 'vitest';
import { createForward, type Forward } from '../../src/model/forward.ts';
import { openModel, readWeights } from '../../src/model/load.ts';
import { uploadWeights, weightFormats } from '../../src/model/weights.ts';
import type { Engine } from '../../src/types.ts';
import { type Family, familyNames, loadFamily } from '../reference/families.ts';
import { createReferenceModel } from '../reference/forward.ts';
import { teacherForcedGaps } from '../reference/generate.ts';
import { memorySource, openEngine, randomFolder, withoutLastLayer } from './engine_bench.ts';
import { bitsOf, differences, feed, poison, readKv, readLogits } from './forward_bench.ts';
import { device, expectClose } from './kernel_bench.ts';

const sequenceLength = 200;
/** Prompts of 1, 7, 64 and 200 tokens, the last beyond every window: in few rows, in few rows, in a tile, in a tile. */
const chunks = [1, 6, 57, 136];

/**
 * Of what Hugging Face computes from the stored weights, relative to the largest logit; and how far ahead its greedy
 * choices must be to be ours. Matrices are packed as F16, which costs F32 files three digits and these BF16 files nothing.
 */
const tolerances = {
  F16: { logits: 1e-5, margin: 2e-4 },
  BF16: { logits: 1e-5, margin: 2e-4 },
  F32: { logits: 2e-3, margin: 0.02 },
} as const;
const toleranceOf = ({ tensors }: Family) => tolerances[tensors.get('model.embed_tokens.weight')!.dtype];

describe.each(familyNames)('%s', (name) => {
  let family: Family;
  beforeAll(async () => {
    family = await loadFamily(name);
  });
  // What F16 matrices cost is not the kernels' error.
  const twin = () => createReferenceModel(family.config, family.tensors, { matricesAsFloat16: true });

  describe('the forward pass', () => {
    let forward: Forward;
    beforeAll(async () => {
      const files = await openModel(memorySource(name, randomFolder(family)), 'target');
      const weights = await uploadWeights(
        device(),
        name,
        files,
        readWeights(files, 'target'),
        weightFormats(files, 'f16'),
      );
      forward = await createForward(device(), name, files.config, weights, {
        slots: 1,
        contextLength: 256,
        rowCapacity: sequenceLength,
        paddedRows: false,
      });
    });

    /** Feeds the whole sequence; `after` sees the row of each chunk's last token. */
    async function run(sizes: readonly number[], after?: (row: number) => Promise<void>) {
      poison(forward.kvCache);
      let start = 0;
      for (const size of sizes) {
        feed(forward, family.expected.tokens.slice(start, start + size), start, 1);
        start += size;
        await after?.(start - 1);
      }
      expect(start).toBe(sequenceLength);
    }
    const lastLogits = async () => (await readLogits(forward, family.config.vocabSize, 1))[0] as Float32Array;

    it('has the logits of its twin and of Hugging Face', async () => {
      const rows = twin().forward(family.expected.tokens, 0);
      await run(chunks, async (row) => {
        const got = await lastLogits();
        expectClose(got, rows[row] as Float64Array, 1e-5);
        expectClose(got, family.expected.logits[row] as number[], toleranceOf(family).logits);
      });
    });

    it('gives the same bits in one tile, in chunks, and in few rows', async () => {
      const bits = async (sizes: readonly number[]) => {
        await run(sizes);
        const kv = await readKv(forward.kvCache, family.config, sequenceLength);
        return new Map([...kv, ['logits', bitsOf(await lastLogits())]]);
      };
      const whole = await bits([sequenceLength]);
      for (const sizes of [chunks, new Array(25).fill(8)]) expect(differences(await bits(sizes), whole)).toEqual([]);
    });
  });

  describe('the engine', () => {
    it('decodes what Hugging Face decodes, with a draft that errs and with itself as draft', async () => {
      const target = memorySource(name, randomFolder(family));
      const drafts = { mismatched: memorySource('draft', randomFolder(withoutLastLayer(family))), itself: target };
      const engines = new Map<string, Engine>();
      for (const [draft, source] of Object.entries(drafts)) engines.set(draft, await openEngine(target, source));
      const generate = async (draft: string, promptLength: number, draftLength: number, maxNewTokens: number) => {
        const prompt = family.expected.tokens.slice(0, promptLength);
        return (engines.get(draft) as Engine).generate(prompt, { draftLength, maxNewTokens, ignoreEos: true }).result;
      };
      let rejectedCount = 0;
      for (const { promptLength, tokens, margins } of family.expected.greedy.slice(0, 1)) {
        const plain = await generate('mismatched', promptLength, 0, tokens.length);
        const unclear = margins.findIndex((margin) => margin < toleranceOf(family).margin);
        const clear = unclear < 0 ? tokens.length : unclear;
        expect(clear).toBeGreaterThan(4);
        expect(plain.tokens.slice(0, clear)).toEqual(tokens.slice(0, clear));
        const prompt = family.expected.tokens.slice(0, promptLength);
        expect(Math.max(...teacherForcedGaps(twin(), prompt, plain.tokens))).toBeLessThan(1e-3);

        const expected = plain.tokens.slice(0, 16);
        const misled = await generate('mismatched', promptLength, 3, expected.length);
        expect(misled.tokens).toEqual(expected);
        rejectedCount += misled.stats.draftedCount - misled.stats.acceptedCount;
        const own = await generate('itself', promptLength, 3, expected.length);
        expect(own.tokens).toEqual(expected);
        expect(own.meta_info.spec_accept_rate).toBe(1);
      }
      expect(rejectedCount).toBeGreaterThan(0);
    });
  });
});
