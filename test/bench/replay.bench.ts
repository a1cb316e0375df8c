/**
 * Speculation at a given acceptance rate α, whatever the models would agree on: the accept shader of this bench keeps a
 * draft where a hash of its position says so. Everything else of the rounds is real, so their time is. Prints, for α and
 * k, the observed speedup over plain decoding beside that of the cost model, and how far `auto` is from the best k.
 */
import { roundCost } from '../../demo/cost_model.ts';
import { createEngineOn } from '../../src/engine_core.ts';
import { type Gpu, openGpu } from '../../src/gpu/device.ts';
import { urlSource } from '../../src/model/source.ts';
import { parseEngineOptions } from '../../src/options.ts';
import type { CostReport, Engine } from '../../src/types.ts';
import { adapterLine, type Timing, timingOf } from './timing.ts';

export type ReplayOptions = { tokens: number; repeats: number };

/** α of the first half of a text, and of the second. */
type Acceptance = { first: number; second: number };

type ReplayRow = {
  draftLength: number | 'auto';
  /** Median time of a token after the first, in ms, and the median distance of the runs from it, relative to it. */
  tokenMs: number;
  spread: number;
  /** Tokens per round. */
  acceptLength: number;
  /** Of this sweep's plain decoding. */
  speedup: number;
  /** The cost model's, from the tokens per round that came and the costs measured before; null for `auto` and 0. */
  predicted: number | null;
};

export type ReplayReport = {
  adapter: string;
  costs: CostReport;
  options: ReplayOptions;
  sweeps: { acceptance: Acceptance; rows: ReplayRow[] }[];
};

const acceptances: Acceptance[] = [
  ...[0.3, 0.6, 0.9].map((alpha) => ({ first: alpha, second: alpha })),
  { first: 0.9, second: 0.3 },
  { first: 0.3, second: 0.9 },
];
const draftLengths: ReplayRow['draftLength'][] = [0, 1, 3, 7, 'auto'];
/** Token ids, so that every position is that of the bench. */
const prompt = [1, 403, 407, 261, 378];

export async function benchReplay(options: ReplayOptions): Promise<ReplayReport> {
  const page = globalThis.location?.href ?? 'http://localhost/';
  const source = (name: string) => urlSource(`/models/${name}/`, page);
  const [target, draft] = [source('stories-3m'), source('stories-650k')] as const;
  const parsed = parseEngineOptions({ target: target.url, draft: draft.url });
  const sweeps: ReplayReport['sweeps'] = [];
  let costs: CostReport | null = null;
  let adapter = '';
  for (const acceptance of acceptances) {
    const gpu = await openGpu();
    forceAcceptance(gpu, acceptance, prompt.length + options.tokens / 2);
    const engine = await createEngineOn(gpu, target, draft, { ...parsed, costs });
    adapter = adapterLine(gpu);
    // One measurement serves all: it sees no acceptance.
    costs ??= await engine.measureCosts({ sampleCount: 7 });
    sweeps.push({ acceptance, rows: await sweep(engine, costs, options) });
    await engine.dispose();
  }
  return { adapter, costs: costs as CostReport, options, sweeps };
}

/** Lets the accept shader keep a draft by its position, and commit kept drafts: those that the caches were fed. */
function forceAcceptance(gpu: Gpu, { first, second }: Acceptance, switchAt: number): void {
  const threshold = (alpha: number) => `${Math.round(alpha * 65536)}u`;
  const position = '(state[slot].length + accepted)';
  const changes: [from: string, to: string][] = [
    [
      'state[slot].drafts[accepted] == targetTokens[first + accepted]',
      `((${position} * 2654435769u) ^ ((${position} * 2654435769u) >> 15u)) % 65536u < ` +
        `select(${threshold(second)}, ${threshold(first)}, ${position} < ${Math.round(switchAt)}u)`,
    ],
    ['return targetTokens[first + i];', 'return select(targetTokens[first + i], state[slot].drafts[i], i < accepted);'],
  ];
  gpu.rewriteShader = (label, code) => {
    if (label !== 'accept') return code;
    return changes.reduce((changed, [from, to]) => {
      if (!changed.includes(from)) throw new Error(`Expected accept.wgsl to contain "${from}".`);
      return changed.replace(from, to);
    }, code);
  };
}

/** Every k in turn, and that again and again: each meets each moment of a machine that is not alone. */
async function sweep(engine: Engine, costs: CostReport, { tokens, repeats }: ReplayOptions): Promise<ReplayRow[]> {
  const times = draftLengths.map((): number[] => []);
  const lengths = draftLengths.map(() => 1);
  for (let repeat = -1; repeat < repeats; repeat++) {
    for (const [i, draftLength] of draftLengths.entries()) {
      const run = engine.generate(prompt, { draftLength, maxNewTokens: tokens, ignoreEos: true, temperature: 0 });
      const { stats, meta_info: meta } = await run.result;
      if (repeat < 0) continue; // warm
      times[i]?.push(stats.timePerOutputTokenMs as number);
      lengths[i] = meta.spec_accept_length ?? 1;
    }
  }
  const timings = times.map(timingOf);
  const plainMs = (timings[0] as Timing).ms;
  return draftLengths.map((draftLength, i) => {
    const { ms: tokenMs, spread } = timings[i] as Timing;
    const acceptLength = lengths[i] as number;
    const isModelled = typeof draftLength === 'number' && draftLength > 0;
    const cost = isModelled ? roundCost(costs.c as number, costs.v[draftLength] as number, draftLength) : null;
    return {
      draftLength,
      tokenMs,
      spread,
      acceptLength,
      speedup: plainMs / tokenMs,
      predicted: cost && acceptLength / cost,
    };
  });
}

export function replayMarkdown({ adapter, costs, options, sweeps }: ReplayReport): string {
  const lines = [
    `## Speculation at a given acceptance: ${adapter}`,
    '',
    `Embedded pair, ${options.tokens} tokens, median of ${options.repeats} runs, every k in turn. ` +
      `c = ${costs.c?.toFixed(3)}, v(1..8) = ${costs.v.map((v) => v.toFixed(2)).join(' ')}.`,
    '',
    '| α | k | tokens/round | ms/token | ± | S observed | S of the cost model | observed/model | of the best k |',
    '| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |',
  ];
  for (const { acceptance, rows } of sweeps) {
    const { first, second } = acceptance;
    const best = Math.max(...rows.filter(({ draftLength }) => draftLength !== 'auto').map(({ speedup }) => speedup));
    for (const { draftLength, tokenMs, spread, acceptLength, speedup, predicted } of rows) {
      const cells = [
        first === second ? first : `${first} → ${second}`,
        draftLength,
        acceptLength.toFixed(2),
        tokenMs.toFixed(2),
        `${(100 * spread).toFixed(0)} %`,
        speedup.toFixed(2),
        predicted?.toFixed(2) ?? '',
        predicted === null ? '' : (speedup / predicted).toFixed(2),
        (speedup / best).toFixed(2),
      ];
      lines.push(`| ${cells.join(' | ')} |`);
    }
  }
  return lines.join('\n');
}
