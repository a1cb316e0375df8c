/** Speculation in every model family: tokens do not depend on k, and as many drafts are accepted as the twins accept. */
import { describe, expect, it } from 'vitest';
import { parseConfig } from '../../src/model/config.ts';
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
});
