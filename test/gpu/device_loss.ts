/** Requests over a device that is lost while they run: what they write must not show it. */
import { expect } from 'vitest';
import { createEngineOn } from '../../src/engine_core.ts';
import { type Gpu, openGpu } from '../../src/gpu/device.ts';
import { parseEngineOptions } from '../../src/options.ts';
import type { Engine, GenerateOptions, GenerateResult } from '../../src/types.ts';
import { prompts } from '../reference/prompts.ts';
import { embeddedSource } from './engine_bench.ts';

/** Three at a time, of each kind whose text is fixed. */
const requests: { prompt: string; options: GenerateOptions }[] = [
  { prompt: prompts[2] as string, options: { draftLength: 3 } },
  {
    prompt: prompts[4] as string,
    options: {
      draftLength: 2,
      temperature: 0.9,
      seed: 5,
      repetitionPenalty: 1.2,
      frequencyPenalty: 2,
      minNewTokens: 8,
      logitBias: { 300: 8 },
    },
  },
  { prompt: prompts[6] as string, options: { stop: ' mom' } },
];

export type LossyEngine = {
  engine: Engine;
  /** Destroys the device in use. */
  lose(): void;
  openedCount(): number;
  /** Ids that the draft gets logits for, on the device in use. */
  headTokens(): number;
};

export async function openLossyEngine(now: () => number): Promise<LossyEngine> {
  const opened: Gpu[] = [];
  const reopenGpu = async () => {
    const gpu = await openGpu();
    opened.push(gpu);
    return gpu;
  };
  const [target, draft] = [embeddedSource('stories-3m'), embeddedSource('stories-650k')];
  const given = { target: target.url, draft: { model: draft.url, headTokens: 1024 } };
  const options = { ...parseEngineOptions(given), reopenGpu, now };
  const engine = await createEngineOn(await reopenGpu(), target, draft, options);
  return {
    engine,
    lose: () => opened.at(-1)?.device.destroy(),
    openedCount: () => opened.length,
    headTokens: () => {
      const buffers = [...(opened.at(-1)?.buffers ?? [])];
      const logits = buffers.find(({ label }) => label === 'draft logits') as GPUBuffer;
      return logits.size / 4 / engine.info.maxRunningRequests;
    },
  };
}

/** Runs all three, and tells of every round that arrives: how many there were before it. */
export async function runRequests(
  engine: Engine,
  maxNewTokens: number,
  onRound: (roundCount: number) => void = () => {},
): Promise<GenerateResult[]> {
  let roundCount = 0;
  const runs = requests.map(({ prompt, options }) => engine.generate(prompt, { ...options, maxNewTokens }));
  const watch = async (run: (typeof runs)[number]) => {
    for await (const round of run) {
      expect(round.tokens.length).toBeGreaterThan(0);
      onRound(roundCount);
      roundCount += 1;
    }
    return run.result;
  };
  return Promise.all(runs.map(watch));
}

/** Texts and ends are those of the undisturbed run, and the sums add up: emitted = 1 + correct + verified + plain. */
export function expectUndisturbed(results: readonly GenerateResult[], expected: readonly GenerateResult[]): void {
  for (const [i, { tokens, text, stats, meta_info: meta }] of results.entries()) {
    const undisturbed = expected[i] as GenerateResult;
    expect({ i, tokens, text }).toEqual({ i, tokens: undisturbed.tokens, text: undisturbed.text });
    expect(meta.finish_reason).toEqual(undisturbed.meta_info.finish_reason);
    const agreed = 1 + stats.acceptedCount + stats.verifyCount + stats.plainCount;
    expect(agreed).toBeGreaterThanOrEqual(tokens.length);
    expect(agreed - tokens.length).toBeLessThan(8);
  }
}
