/** The race and the bench over an engine whose every answer is written down here. */
import { describe, expect, it } from 'vitest';
import { runBench, sampledModes } from '../../demo/bench.ts';
import { benchMarkdown } from '../../demo/bench_report.ts';
import { runRace } from '../../demo/race.ts';
import { createChat } from '../../src/chat.ts';
import type { Engine, EngineInfo, GenerateOptions, GenerateResult, ModelInfo, Round } from '../../src/types.ts';

const model = (name: string, dispatchesPerPass: number): ModelInfo => ({
  url: `https://models.test/${name}/`,
  architecture: 'LlamaForCausalLM',
  parameterCount: 1000,
  layerCount: 2,
  hiddenSize: 8,
  vocabSize: 16,
  headTokens: 16,
  eosTokenIds: [1],
  maxContextLength: 64,
  weightBytes: 2000,
  dispatchesPerPass,
  dispatchesPerLayer: 8,
});

const info: EngineInfo = {
  adapter: { vendor: 'acme', architecture: 'one', device: '', description: 'Acme One' },
  features: [],
  limits: { maxBufferSize: 1, maxStorageBufferBindingSize: 1, maxComputeWorkgroupStorageSize: 1 },
  lossless: 'exact',
  paddedRows: false,
  kernelKind: 'workgroup',
  target: model('target', 40),
  draft: model('draft', 10),
  contextLength: 64,
  dtype: 'f16',
  drafter: 'model',
  roundsInFlight: 2,
  maxRunningRequests: 4,
  dispatchesPerRound: [42, 53, 64, 75, 86, 97, 108, 119],
  loadTimeMs: 100,
  shared: false,
  costs: null,
  gpuBytes: 1,
};

type Script = {
  /** Tokens of run number `call` (from 0) with k drafts. */
  tokens?: (k: number, call: number, isUnseeded: boolean) => number[];
  /** Tokens per second of run number `call` with k drafts. */
  speed?: (k: number, call: number) => number;
};

/** Each round accepts every draft but in the first, which accepts none. */
function scriptedEngine({ tokens = () => [1, 2, 3, 4, 5, 6, 7, 8, 9], speed = () => 10 }: Script) {
  const calls: { prompt: string; k: number }[] = [];
  let running = 0;
  const engine: Engine = {
    info,
    generate(prompt, { draftLength, temperature = 0, seed, signal }: GenerateOptions = {}) {
      if (typeof draftLength !== 'number') throw new Error('Each run is of one k.');
      const k = draftLength;
      if (running > 0) throw new Error('Two runs at once would be timed as one.');
      running += 1;
      const call = calls.length;
      calls.push({ prompt: String(prompt), k });
      const ids = tokens(k, call, temperature > 0 && seed === undefined);
      const rounds: Round[] = [];
      for (let at = 0; at < ids.length; ) {
        const index = rounds.length;
        const acceptedCount = index < 2 ? 0 : k;
        const mine = ids.slice(at, at + acceptedCount + 1);
        const phase = index === 0 ? 'prefill' : k === 0 ? 'plain' : 'verify';
        const draftLength = phase === 'verify' ? k : 0;
        const stats = { index, phase, draftLength, acceptedCount, tokenCount: mine.length, roundTimeMs: 1 } as const;
        rounds.push({ text: '', tokens: mine, pieces: mine.map(() => ''), stats });
        at += mine.length;
      }
      const result = {
        text: '',
        tokens: ids,
        stats: { acceptanceRate: k === 0 ? null : 0.5, tokensPerSecond: speed(k, call) },
        meta_info: { finish_reason: { type: signal?.aborted ? 'abort' : 'length' } },
      } as unknown as GenerateResult;
      return {
        result: Promise.resolve(result),
        async *[Symbol.asyncIterator]() {
          for (const round of rounds) {
            await null;
            yield round;
          }
          running -= 1;
        },
      };
    },
    on: () => () => {},
    chat: createChat({
      modelName: 'm',
      info,
      generate: () => engine.generate(''),
      applyTemplate: async () => ({ text: '', tokens: [] }),
    }),
    metrics: async () => '',
    measureCosts: async () => ({
      committedLength: 48,
      targetStepMs: 10,
      draftStepMs: 2,
      c: 0.2,
      v: [1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7],
      vSpread: [0, 0, 0, 0, 0, 0, 0, 0],
      sampleCount: 5,
      longContext: null,
    }),
    dispose: async () => {},
  };
  return { engine, calls };
}

const settings = { prompt: 'p', draftLength: 2, maxNewTokens: 9 };

describe('race', () => {
  it('warms up, alternates the order, and takes the median of the ratios', async () => {
    // Timed runs are calls 2..7; the speculative ones are 3 (12/s), 4 (18/s) and 7 (15/s).
    const { engine, calls } = scriptedEngine({
      speed: (k, call) => (k === 0 ? 10 : { 3: 12, 4: 18, 7: 15 }[call]) ?? 99,
    });
    const race = await runRace(engine, settings);
    expect(calls.map((call) => call.k)).toEqual([0, 2, 0, 2, 2, 0, 0, 2]);
    expect(race.pairs.map((pair) => pair.speedup)).toEqual([1.2, 1.8, 1.5]);
    expect(race.speedup).toBe(1.5);
    expect(race.shown).toBe(race.pairs[2]);
    expect(race.firstDifference).toBeNull();
    // Rounds after the prefill accept 0 (1 judged), 2, 2 and 2 of 2.
    expect(race.alpha).toBeCloseTo(6 / 7, 12);
    const expected = 1 + 6 / 7 + (6 / 7) ** 2;
    expect(race.prediction?.speedup).toBeCloseTo(expected / (2 * 0.2 + 1.2), 12);
  });

  it('reports the first token that differs in any pair', async () => {
    const { engine } = scriptedEngine({ tokens: (k, call) => (k === 2 && call === 4 ? [1, 2, 3, 0] : [1, 2, 3, 4]) });
    expect((await runRace(engine, settings)).firstDifference).toBe(3);
  });

  it('rejects with the reason of the signal', async () => {
    const { engine, calls } = scriptedEngine({});
    const controller = new AbortController();
    controller.abort();
    await expect(runRace(engine, { ...settings, signal: controller.signal })).rejects.toBe(controller.signal.reason);
    expect(calls).toHaveLength(1);
  });
});

describe('bench', () => {
  const options = { prompts: ['a', 'b'], maxNewTokens: 9, repeatCount: 3 };

  it('checks every k before it times one, and interleaves', async () => {
    const { engine, calls } = scriptedEngine({ speed: (k) => 10 + k });
    const report = await runBench(engine, options);
    const up = [0, 1, 2, 3, 4, 5, 6, 7];
    const down = [...up].reverse();
    const block = (prompt: string, ks: number[]) => ks.map((k) => ({ prompt, k }));
    expect(calls).toEqual([up, up, down, up].flatMap((ks) => [...block('a', ks), ...block('b', ks)]));
    expect(report.tokensEqual).toBe(true);
    expect(report.rows.map((row) => row.tokensPerSecond)).toEqual([10, 11, 12, 13, 14, 15, 16, 17]);
    expect(report.rows.map((row) => row.speedup)).toEqual([1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7]);
    expect(report).toMatchObject({ pays: true, bestDraftLength: 7 });
    expect(report.rows[0]).toMatchObject({ alpha: null, acceptanceRate: null, predictedSpeedup: null });
    const markdown = benchMarkdown(report);
    expect(markdown).toContain('## foretoken bench: Acme One');
    expect(markdown).toContain('| 7 | 17.0 | 0.0 % | 1.70× |');
    expect(markdown).toContain('| dispatches per round, k = 0..7 | 42, 53, 64, 75, 86, 97, 108, 119 |');
  });

  it('reports the median speed, and the median distance of the runs from it', async () => {
    // Timed runs with k = 0 of one prompt: calls 8, 23 and 24 (the order turns); 10, 14 and 11 tokens/s.
    const { engine, calls } = scriptedEngine({ speed: (k, call) => (k === 0 ? ({ 23: 14, 24: 11 }[call] ?? 10) : 20) });
    const report = await runBench(engine, { ...options, prompts: ['a'] });
    expect([8, 23, 24].map((call) => calls[call]?.k)).toEqual([0, 0, 0]);
    expect(report.rows[0]).toMatchObject({ tokensPerSecond: 11, spread: 1 / 11 });
    expect(report.rows[3]).toMatchObject({ tokensPerSecond: 20, spread: 0, speedup: 20 / 11 });
  });

  it('times sampled requests too; without a seed each may write another text', async () => {
    const { engine, calls } = scriptedEngine({
      speed: (k) => 10 + k,
      tokens: (_, call, isUnseeded) => (isUnseeded ? [call, 2, 3] : [1, 2, 3]),
    });
    const report = await runBench(engine, { ...options, modes: sampledModes });
    expect(calls).toHaveLength(5 * 2 * 8 * 4);
    expect(report.tokensEqual).toBe(true);
    expect(report.sampled.map(({ temperature, seed }) => [temperature, seed])).toEqual([
      [0.7, 1],
      [0.7, null],
      [1, 1],
      [1, null],
    ]);
    for (const { rows } of report.sampled)
      expect(rows.map((row) => row.speedup)).toEqual(report.rows.map((row) => row.speedup));
    expect(benchMarkdown(report)).toContain('| unseeded, temperature 0.7 | 7 | 17.0 | 0.0 % | 1.70× |');
  });

  it('holds a seeded request to the tokens of k = 0', async () => {
    const { engine, calls } = scriptedEngine({ tokens: (_, call) => (call === 70 ? [1, 2, 9] : [1, 2, 3]) });
    const report = await runBench(engine, { ...options, modes: sampledModes.slice(0, 1) });
    expect(calls).toHaveLength(71);
    expect(report.disagreement).toMatch(/^seeded, temperature 0.7: k = \d gave token 9 at position 2/);
  });

  it('prints no time when a k gives other tokens, found while checking or while timing', async () => {
    for (const brokenCall of [5, 30]) {
      const { engine, calls } = scriptedEngine({ tokens: (_, call) => (call === brokenCall ? [1, 2, 9] : [1, 2, 3]) });
      const report = await runBench(engine, options);
      expect(calls).toHaveLength(brokenCall + 1);
      expect(report).toMatchObject({ tokensEqual: false, rows: [], costs: null, pays: null });
      expect(report.verdict).toMatch(/^No times: the outputs differ \(greedy: k = \d gave token 9 at position 2/);
      expect(benchMarkdown(report)).not.toContain('tokens/s');
    }
  });
});
