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
import { costsAt } from '../../src/speculative/round_cost.ts';
import type { CostReport, Engine, PassCosts } from '../../src/types.ts';
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
  /** Median of the repeats' speedups over plain decoding. */
  speedup: number;
  /** The cost model's, from the tokens per round that came and the sweep's costs; null for `auto` and 0. */
  predicted: number | null;
};

export type ReplayReport = {
  adapter: string;
  options: ReplayOptions;
  /** `costs`: at the mean length of a run, the median of those measured between the runs. */
  sweeps: { acceptance: Acceptance; costs: PassCosts; rows: ReplayRow[] }[];
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
    // What the policies begin with: one measurement serves all, it sees no acceptance.
    costs ??= await engine.measureCosts({ sampleCount: 7 });
    sweeps.push({ acceptance, ...(await sweep(engine, options)) });
    await engine.dispose();
  }
  return { adapter, options, sweeps };
}

/** A position's, as if drawn: neighbours must not depend on each other, or one k has an easier text than another. PCG-RXS-M-XS. */
const hashCode = `
fn hash_of(position: u32) -> u32 {
  let x = position * 747796405u + 2891336453u;
  let mixed = ((x >> ((x >> 28u) + 4u)) ^ x) * 277803737u;
  return (mixed >> 22u) ^ mixed;
}
`;

/** Lets the accept shader keep a draft by its position, and commit kept drafts: those that the caches were fed. */
function forceAcceptance(gpu: Gpu, { first, second }: Acceptance, switchAt: number): void {
  const threshold = (alpha: number) => `${Math.round(alpha * 65536)}u`;
  const position = '(state[slot].length + accepted)';
  const changes: [from: string, to: string][] = [
    ['fn accepted_drafts', `${hashCode}fn accepted_drafts`],
    [
      'state[slot].drafts[accepted] == targetTokens[first + accepted]',
      `hash_of(${position}) % 65536u < ` +
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

/** The costs and every k in turn, and that again and again: each meets each moment of a machine that is not alone. */
async function sweep(
  engine: Engine,
  { tokens, repeats }: ReplayOptions,
): Promise<{ costs: PassCosts; rows: ReplayRow[] }> {
  const measured: PassCosts[] = [];
  const times = draftLengths.map((): number[] => []);
  const lengths = draftLengths.map(() => 1);
  for (let repeat = -1; repeat < repeats; repeat++) {
    if (repeat >= 0) {
      measured.push(costsAt(await engine.measureCosts({ sampleCount: 3 }), prompt.length + tokens / 2));
    }
    for (const [i, draftLength] of draftLengths.entries()) {
      const run = engine.generate(prompt, { draftLength, maxNewTokens: tokens, ignoreEos: true, temperature: 0 });
      const { stats, meta_info: meta } = await run.result;
      if (repeat < 0) continue; // warm
      times[i]?.push(stats.timePerOutputTokenMs as number);
      lengths[i] = meta.spec_accept_length ?? 1;
    }
  }
  const costs = medianCosts(measured);
  const timings = times.map(timingOf);
  const plainMs = times[0] as number[];
  const rows = draftLengths.map((draftLength, i) => {
    const { ms: tokenMs, spread } = timings[i] as Timing;
    const acceptLength = lengths[i] as number;
    const isModelled = typeof draftLength === 'number' && draftLength > 0;
    const cost = isModelled ? roundCost(costs.c as number, costs.v[draftLength] as number, draftLength) : null;
    return {
      draftLength,
      tokenMs,
      spread,
      acceptLength,
      speedup: timingOf(plainMs.map((ms, repeat) => ms / (times[i]?.[repeat] as number))).ms,
      predicted: cost && acceptLength / cost,
    };
  });
  return { costs, rows };
}

function medianCosts(measured: readonly PassCosts[]): PassCosts {
  const medianOf = (pick: (costs: PassCosts) => number): number => timingOf(measured.map(pick)).ms;
  const { committedLength, v } = measured[0] as PassCosts;
  return {
    committedLength,
    targetStepMs: medianOf(({ targetStepMs }) => targetStepMs),
    draftStepMs: medianOf(({ draftStepMs }) => draftStepMs as number),
    c: medianOf(({ c }) => c as number),
    v: v.map((_, i) => medianOf((costs) => costs.v[i] as number)),
  };
}

const acceptanceName = ({ first, second }: Acceptance): string =>
  first === second ? `${first}` : `${first} → ${second}`;

export function replayMarkdown({ adapter, options, sweeps }: ReplayReport): string {
  const lines = [
    `## Speculation at a given acceptance: ${adapter}`,
    '',
    `Embedded pair, ${options.tokens} tokens, median of ${options.repeats} runs, every k in turn.`,
    ...sweeps.map(
      ({ acceptance, costs }) =>
        `- α = ${acceptanceName(acceptance)}: at ${costs.committedLength} tokens c = ${costs.c?.toFixed(3)}, ` +
        `v(1..8) = ${costs.v.map((v) => v.toFixed(2)).join(' ')}.`,
    ),
    '',
    '| α | k | tokens/round | ms/token | ± | S observed | S of the cost model | observed/model | of the best k |',
    '| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |',
  ];
  for (const { acceptance, rows } of sweeps) {
    const best = Math.max(...rows.filter(({ draftLength }) => draftLength !== 'auto').map(({ speedup }) => speedup));
    for (const { draftLength, tokenMs, spread, acceptLength, speedup, predicted } of rows) {
      const cells = [
        acceptanceName(acceptance),
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
