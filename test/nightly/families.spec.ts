/**
 * Speculation in every model family: tokens do not depend on k, as many drafts are accepted as the twins accept, a model
 * accepts all of its own, and a round is one submit and one map.
 */
import { describe, expect, it } from 'vitest';
import { parseConfig } from '../../src/model/config.ts';
import { countCalls, expectRoundCosts } from '../gpu/count_calls.ts';
import { memorySource, openEngine, randomFolder, withoutLastLayer } from '../gpu/engine_bench.ts';
import { readSafetensors } from '../reference/checkpoint.ts';
import { familyNames, loadFamily } from '../reference/families.ts';
import { createReferenceModel } from '../reference/forward.ts';
import { referenceSpeculative } from '../reference/generate.ts';

const promptLengths = [1, 7, 64, 200];
const maxNewTokens = 24;

describe.each(familyNames)('%s', (name) => {
  it('k = 1 to 7: the tokens of k = 0, and the twins’ acceptance', async () => {
    const family = await loadFamily(name);
    const draft = withoutLastLayer(family);
    const engine = await openEngine(
      memorySource(name, randomFolder(family)),
      memorySource('draft', randomFolder(draft)),
    );
    const asFloat16 = { matricesAsFloat16: true, cacheAsFloat16: true };
    const targetTwin = createReferenceModel(family.config, family.tensors, asFloat16);
    const draftConfig = parseConfig(draft.configJson, 'draft');
    const draftTwin = createReferenceModel(draftConfig, readSafetensors(draft.safetensors), asFloat16);
    let [draftedCount, acceptedCount, twinDraftedCount, twinAcceptedCount] = [0, 0, 0, 0];
    for (const promptLength of promptLengths) {
      const prompt = family.expected.tokens.slice(0, promptLength);
      const generate = (draftLength: number) =>
        engine.generate(prompt, { draftLength, maxNewTokens, ignoreEos: true }).result;
      const plain = await generate(0);
      expect(plain.tokens.length).toBe(maxNewTokens);
      for (let k = 1; k <= 7; k++) {
        const { tokens, stats } = await generate(k);
        expect({ promptLength, k, tokens }).toEqual({ promptLength, k, tokens: plain.tokens });
        if (k !== 3) continue;
        draftedCount += stats.draftedCount;
        acceptedCount += stats.acceptedCount;
        for (const round of referenceSpeculative(targetTwin, draftTwin, prompt, maxNewTokens, k, []).rounds) {
          twinDraftedCount += round.draftCount;
          twinAcceptedCount += round.acceptedCount;
        }
      }
    }
    expect(Math.abs(acceptedCount / draftedCount - twinAcceptedCount / twinDraftedCount)).toBeLessThan(0.02);
    expect(twinAcceptedCount).toBeLessThan(twinDraftedCount);
  });

  it('k = 1 to 7 with itself as draft: every draft is accepted', async () => {
    const family = await loadFamily(name);
    const source = memorySource(name, randomFolder(family));
    const engine = await openEngine(source, source);
    for (const promptLength of promptLengths) {
      const prompt = family.expected.tokens.slice(0, promptLength);
      const generate = (draftLength: number) =>
        engine.generate(prompt, { draftLength, maxNewTokens, ignoreEos: true }).result;
      const plain = await generate(0);
      for (let k = 1; k <= 7; k++) {
        const { tokens, stats, meta_info: meta } = await generate(k);
        expect({ promptLength, k, tokens }).toEqual({ promptLength, k, tokens: plain.tokens });
        expect(meta.spec_accept_rate).toBe(1);
        expect(stats.roundCount).toBe(Math.ceil((maxNewTokens - 1) / (k + 1)));
      }
    }
  });

  it.each([0, 1, 3, 7])(
    'k = %i: a round is one submit and one map of 64 bytes, and makes nothing',
    async (draftLength) => {
      const family = await loadFamily(name);
      const engine = await openEngine(
        memorySource(name, randomFolder(family)),
        memorySource('draft', randomFolder(withoutLastLayer(family))),
      );
      // The next request goes to another slot, and this one's is told to sit out, as it is from now on.
      await engine.generate([5], { maxNewTokens: 2 }).result;
      let roundCount = 0;
      const generate = async (first: number, newTokens: number) => {
        const options = { draftLength, maxNewTokens: newTokens, ignoreEos: true };
        roundCount = (await engine.generate([first, 6, 7], options).result).stats.roundCount;
      };
      const short = await countCalls(() => generate(20, 3));
      const calls = await countCalls(() => generate(21, 48));
      expect(roundCount).toBeGreaterThan(8);
      expectRoundCosts(calls, short, {
        roundCount,
        draftLength,
        roundsInFlight: engine.info.roundsInFlight,
        mapBytes: 64,
      });
    },
  );
});
