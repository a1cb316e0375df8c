/** The whole speculative loop of the embedded pair against its float64 twin: tokens, rounds and rates at k = 3. */
import { beforeAll, describe, expect, it } from 'vitest';
import type { Engine, GenerateResult } from '../../src/types.ts';
import type { ReferenceModel } from '../reference/forward.ts';
import { referenceSpeculative, type SpeculativeResult, teacherForcedGaps } from '../reference/generate.ts';
import { endOfTextId, wideMarginPrompts } from '../reference/prompts.ts';
import { summarizeRounds } from '../reference/statistics.ts';
import { embeddedPrompts, embeddedSource, embeddedTwin, openEngine } from './engine_bench.ts';

const k = 3;
/** Beside the five: an ordinary one, one with reported speech, and the long one (four KV blocks) that ends on the way. */
const otherPrompts = [0, 11];
/** The lowest pooled acceptance rate that is no accident: a draft that stopped reading leaves every text correct. */
const acceptanceFloor = 0.55;

let engine: Engine;
let targetTwin: ReferenceModel;
let draftTwin: ReferenceModel;
let promptTokens: number[][];
beforeAll(async () => {
  engine = await openEngine(embeddedSource('stories-3m'), embeddedSource('stories-650k'));
  [targetTwin, draftTwin] = [await embeddedTwin('stories-3m'), await embeddedTwin('stories-650k')];
  promptTokens = await embeddedPrompts();
});

type Runs = { prompt: readonly number[]; result: GenerateResult; twin: SpeculativeResult };
const known = new Map<number, Runs>();

async function runBoth(index: number): Promise<Runs> {
  const runs = known.get(index);
  if (runs !== undefined) return runs;
  const prompt = promptTokens[index] as number[];
  const maxNewTokens = wideMarginPrompts.includes(index) ? 64 : 32;
  const { result } = engine.generate(prompt, { draftLength: k, maxNewTokens });
  const twin = referenceSpeculative(targetTwin, draftTwin, prompt, maxNewTokens, k, [endOfTextId]);
  known.set(index, { prompt, result: await result, twin });
  return known.get(index) as Runs;
}

describe('where the twin’s logits leave room for rounding', () => {
  it.each(wideMarginPrompts)('prompt %i: tokens and every statistic are the twin’s', async (index) => {
    const { result, twin } = await runBoth(index);
    expect(result.tokens).toEqual(twin.tokens);
    const expected = summarizeRounds(twin.rounds, twin.tokens.length, k);
    const { meta_info: meta } = result;
    expect(meta.spec_verify_ct).toBe(expected.verifyCount);
    expect(meta.spec_num_proposed_drafts).toBe(expected.draftedCount);
    expect(meta.spec_num_correct_drafts).toBe(expected.acceptedCount);
    expect(meta.spec_accept_rate).toBe(expected.acceptRate);
    expect(meta.spec_accept_length).toBe(expected.acceptLength);
    expect(meta.spec_correct_drafts_histogram).toEqual(expected.histogram);
    expect(meta.spec_accept_rate_per_pos).toEqual(expected.acceptRatePerPosition);
  });
});

describe('everywhere', () => {
  it.each([...wideMarginPrompts, ...otherPrompts])('prompt %i: no token is less likely than another', async (index) => {
    const { prompt, result } = await runBoth(index);
    const gaps = teacherForcedGaps(targetTwin, prompt, result.tokens);
    expect(gaps.length).toBeGreaterThan(10);
    expect(Math.max(...gaps)).toBeLessThan(1e-3);
  });

  it('acceptance over all prompts is the twin’s, within 0.02, and not low', async () => {
    let [accepted, drafted, twinAccepted, twinDrafted] = [0, 0, 0, 0];
    for (const index of [...wideMarginPrompts, ...otherPrompts]) {
      const { result, twin } = await runBoth(index);
      accepted += result.meta_info.spec_num_correct_drafts as number;
      drafted += result.meta_info.spec_num_proposed_drafts as number;
      const statistics = summarizeRounds(twin.rounds, twin.tokens.length, k);
      twinAccepted += statistics.acceptedCount;
      twinDrafted += statistics.draftedCount;
    }
    expect(Math.abs(accepted / drafted - twinAccepted / twinDrafted)).toBeLessThan(0.02);
    expect(accepted / drafted).toBeGreaterThan(acceptanceFloor);
  });
});
