/**
 * Speculation in every model family: tokens do not depend on k, as many drafts are accepted as the twins accept, a model
 * accepts all of its own, and a round is one submit and one map.
 */
import { beforeAll, describe, expect, it } from 'vitest';
import { parseConfig } from '../../src/model/config.ts';
import type { ModelSource } from '../../src/model/source.ts';
import type { Engine } from '../../src/types.ts';
import { countCalls, expectRoundCosts } from '../gpu/count_calls.ts';
import { memorySource, openEngine, randomFolder, withoutLastLayer } from '../gpu/engine_bench.ts';
import { readSafetensors } from '../reference/checkpoint.ts';
import { type Family, familyNames, loadFamily } from '../reference/families.ts';
import { createReferenceModel } from '../reference/forward.ts';
import { referenceSpeculative } from '../reference/generate.ts';

const promptLengths = [1, 7, 64, 200];
const maxNewTokens = 24;

describe.each(familyNames)('%s', (name) => {
  let family: Family;
  let draft: ReturnType<typeof withoutLastLayer>;
  let target: ModelSource;
  let engine: Engine;
  beforeAll(async () => {
    family = await loadFamily(name);
    draft = withoutLastLayer(family);
    target = memorySource(name, randomFolder(family));
    engine = await openEngine(target, memorySource('draft', randomFolder(draft)));
  });

  it('k = 1 to 7: the tokens of k = 0, and the twins’ acceptance', async () => {
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
    const own = await openEngine(target, target);
    for (const promptLength of promptLengths) {
      const prompt = family.expected.tokens.slice(0, promptLength);
      const generate = (draftLength: number) =>
        own.generate(prompt, { draftLength, maxNewTokens, ignoreEos: true }).result;
      const plain = await generate(0);
      for (let k = 1; k <= 7; k++) {
        const { tokens, stats, meta_info: meta } = await generate(k);
        expect({ promptLength, k, tokens }).toEqual({ promptLength, k, tokens: plain.tokens });
        expect(meta.spec_accept_rate).toBe(1);
        expect(stats.roundCount).toBe(Math.ceil((maxNewTokens - 1) / (k + 1)));
      }
    }
  });

  it('k = 0, 3 and 7: a round is one submit and one map of 64 bytes, and makes nothing', async () => {
    const { roundsInFlight } = engine.info;
    let roundCount = 0;
    let first = 20;
    const generate = async (draftLength: number, newTokens: number) => {
      const options = { draftLength, maxNewTokens: newTokens, ignoreEos: true };
      roundCount = (await engine.generate([first++, 6, 7], options).result).stats.roundCount;
    };
    // The next request goes to another slot, and this one's is told to sit out, as it is from now on.
    await generate(0, 2);
    for (const draftLength of [0, 3, 7]) {
      const short = await countCalls(() => generate(draftLength, 3));
      const calls = await countCalls(() => generate(draftLength, 48));
      expect(roundCount).toBeGreaterThan(8);
      expectRoundCosts(calls, short, { roundCount, draftLength, roundsInFlight, mapBytes: 64 });
    }
  });
});
