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
import { device, expectClose, readFloats } from './kernel_bench.ts';

const sequenceLength = 200;
/** Prompts of 1, 7, 64 and 200 tokens, the last beyond every window: in few rows, in few rows, in a tile, in a tile. */
const chunks = [1, 6, 57, 136];

/**
 * Relative to the largest logit. The twin rounds keys and values to f16 as the cache does; where float32 and float64 fall on
 * two sides of a tie, one of them moves by 2^-11. Hugging Face computed without any rounding.
 */
const twinTolerance = 1e-3;
const exactTolerance = 5e-3;
/** How far ahead Hugging Face's greedy choices must be to be ours. */
const clearMargin = 0.03;

describe.each(familyNames)('%s', (name) => {
  let family: Family;
  beforeAll(async () => {
    family = await loadFamily(name);
  });
  // What F16 matrices cost is not the kernels' error.
  const rounding = { matricesAsFloat16: true, cacheAsFloat16: true };
  const twin = () => createReferenceModel(family.config, family.tensors, rounding);

  describe('the forward pass', () => {
    let forward: Forward;
    let tapping: Forward;
    /** Few rows by lanes, as on adapters that run on a CPU. */
    let byLanes: Forward;
    const taps = [1, 0]; // in this order
    beforeAll(async () => {
      const files = await openModel(memorySource(name, randomFolder(family)), 'target');
      const weights = await uploadWeights(
        device(),
        name,
        files,
        readWeights(files, 'target'),
        weightFormats(files, 'f16'),
      );
      const size = { slots: 1, contextLength: 256, rowCapacity: sequenceLength, paddedRows: false };
      forward = await createForward(device(), name, files.config, weights, size);
      byLanes = await createForward(device(), `${name} by lanes`, files.config, weights, {
        ...size,
        kernelKind: 'lane',
      });
      tapping = await createForward(device(), `${name} tapped`, files.config, weights, { ...size, taps });
    });

    it('keeps the hidden states of tapped layers: those of its twin, the same bits in a tile and in few rows', async () => {
      const { hiddenSize } = family.config;
      const tokens = family.expected.tokens.slice(0, 64);
      const traced = new Map<string, Float64Array>();
      const onTensor = (tensor: string, values: Float64Array) => traced.set(tensor, values.slice());
      createReferenceModel(family.config, family.tensors, { ...rounding, onTensor }).forward(tokens, 0);
      const rowsOf = async (count: number) =>
        (await readFloats(tapping.tapped as GPUBuffer)).slice(0, count * 2 * hiddenSize);
      feed(tapping, tokens, 0, 0);
      const tiled = await rowsOf(64);
      for (const [tap, layer] of taps.entries()) {
        const wanted = traced.get(`layers.${layer}.mlp_residual`) as Float64Array;
        const got = wanted.map(
          (_, i) => tiled[(2 * Math.floor(i / hiddenSize) + tap) * hiddenSize + (i % hiddenSize)] as number,
        );
        expectClose(got, wanted, twinTolerance);
      }
      feed(tapping, tokens.slice(0, 58), 0, 0);
      feed(tapping, tokens.slice(58), 58, 0);
      expect(bitsOf(await rowsOf(6))).toEqual(bitsOf(tiled.slice(58 * 2 * hiddenSize)));
      expect(forward.tapped).toBe(null);
    });

    /** Feeds the whole sequence; `after` sees the row of each chunk's last token. */
    async function run(sizes: readonly number[], after?: (row: number) => Promise<void>, by = forward) {
      poison(by.kvCache);
      let start = 0;
      for (const size of sizes) {
        feed(by, family.expected.tokens.slice(start, start + size), start, 1);
        start += size;
        await after?.(start - 1);
      }
      expect(start).toBe(sequenceLength);
    }

    it('a layer is seven dispatches, and two more where norms are behind its blocks', () => {
      expect(forward.dispatchesPerLayer).toBe(family.config.norms === 'before' ? 7 : 9);
      expect(byLanes.dispatchesPerLayer).toBe(9); // lanes leave nothing for the next norm
    });

    const lastLogits = async (by = forward) => (await readLogits(by, family.config.vocabSize, 1))[0] as Float32Array;

    it('has the logits of its twin and of Hugging Face', async () => {
      const rows = twin().forward(family.expected.tokens, 0);
      await run(chunks, async (row) => {
        const got = await lastLogits();
        expectClose(got, rows[row] as Float64Array, twinTolerance);
        expectClose(got, family.expected.logits[row] as number[], exactTolerance);
      });
    });

    it('gives the same bits in one tile, in chunks, and in few rows, by workgroups or by lanes', async () => {
      const bits = async (sizes: readonly number[], by: Forward) => {
        await run(sizes, undefined, by);
        const kv = await readKv(by.kvCache, family.config, sequenceLength);
        return new Map([...kv, ['logits', bitsOf(await lastLogits(by))]]);
      };
      const whole = await bits([sequenceLength], forward);
      for (const by of [forward, byLanes]) {
        for (const sizes of [chunks, new Array(25).fill(8)]) {
          expect(differences(await bits(sizes, by), whole)).toEqual([]);
        }
      }
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
      const clearRuns = family.expected.greedy.map((greedy) => {
        const unclear = greedy.margins.findIndex((margin) => margin < clearMargin);
        return { ...greedy, clear: unclear < 0 ? greedy.tokens.length : unclear };
      });
      for (const { promptLength, tokens, clear } of clearRuns.filter((run) => run.clear > 4).slice(0, 1)) {
        const plain = await generate('mismatched', promptLength, 0, tokens.length);
        expect(plain.tokens.slice(0, clear)).toEqual(tokens.slice(0, clear));
        const prompt = family.expected.tokens.slice(0, promptLength);
        expect(Math.max(...teacherForcedGaps(twin(), prompt, plain.tokens))).toBeLessThan(5e-3);

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
