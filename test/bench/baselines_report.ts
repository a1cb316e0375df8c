/** The figures of `npm run bench -- --baselines` from its samples, and their table. */
import type { AdapterInfo } from 'foretoken';
import { median } from '../../demo/measure.ts';
import { adapterName } from '../../demo/words.ts';

export type BaselineSample = { name: string; prompt: string; repeat: number; tokensPerSecond: number };

export type BaselineRow = {
  name: string;
  tokensPerSecond: number | null;
  /** Median distance of the runs from their median, relative to it. */
  spread: number | null;
  /** Median over (prompt, repeat) of ours at k = 0 / this one: how many times as fast we are. */
  ours: number | null;
  /** Why there is no time. */
  problem: string | null;
};

export type BaselineReport = {
  date: string;
  userAgent: string;
  adapter: AdapterInfo;
  cores: number;
  /** Of the machine in the minute before and after, ours included: above `cores`, other programs ran beside. */
  loadAverages: [before: number, after: number];
  versions: Record<string, string>;
  prompts: string[];
  maxNewTokens: number;
  repeatCount: number;
  rows: BaselineRow[];
  asked: Asked[];
  samples: BaselineSample[];
};

/** A ratio that the project has set itself, and the row that it is measured against. */
export type Asked = { what: string; ratio: number; measured: number | null; row: string | null };

const plainName = 'foretoken, k = 0';

export function rowsOf(
  names: readonly string[],
  samples: readonly BaselineSample[],
  problems: Readonly<Record<string, string>>,
): BaselineRow[] {
  const speedOf = new Map(samples.map((sample) => [keyOf(sample.name, sample), sample.tokensPerSecond]));
  return names.map((name) => {
    const own = samples.filter((sample) => sample.name === name);
    const problem = problems[name] ?? null;
    if (own.length === 0 || problem !== null) {
      return { name, tokensPerSecond: null, spread: null, ours: null, problem: problem ?? 'not run' };
    }
    const speeds = own.map((sample) => sample.tokensPerSecond);
    const tokensPerSecond = median(speeds);
    const ratios = own.map((sample) => (speedOf.get(keyOf(plainName, sample)) ?? Number.NaN) / sample.tokensPerSecond);
    return {
      name,
      tokensPerSecond,
      spread: median(speeds.map((speed) => Math.abs(speed - tokensPerSecond))) / tokensPerSecond,
      ours: median(ratios),
      problem: null,
    };
  });
}

const keyOf = (name: string, { prompt, repeat }: BaselineSample) => JSON.stringify([name, prompt, repeat]);

/** Against the fastest row of each kind. */
export function askedOf(rows: readonly BaselineRow[]): Asked[] {
  const against = (what: string, ratio: number, start: RegExp): Asked => {
    const timed = rows.filter((row) => start.test(row.name) && row.tokensPerSecond !== null);
    const [fastest] = timed.sort((a, b) => (b.tokensPerSecond ?? 0) - (a.tokensPerSecond ?? 0));
    return { what, ratio, measured: fastest?.ours ?? null, row: fastest?.name ?? null };
  };
  return [
    against('transformers.js on WebGPU, plain fp32 export', 10, /^transformers\.js, WebGPU, plain/),
    against('transformers.js on WebGPU, its best fused export', 3, /^transformers\.js, WebGPU, fused/),
    against('transformers.js on WASM, its best', 0.8, /^transformers\.js, WASM/),
  ];
}

export function baselinesMarkdown(report: BaselineReport): string {
  const times = (ratio: number | null) => (ratio === null ? '–' : `${ratio.toPrecision(3)}×`);
  const rows = report.rows.map(({ name, tokensPerSecond, spread, ours, problem }) =>
    tokensPerSecond === null || spread === null
      ? `| ${name} | – | – | – | no time: ${problem?.replaceAll('|', '\\|')} |`
      : `| ${name} | ${tokensPerSecond.toFixed(1)} | ${(100 * spread).toFixed(1)} % | ${times(ours)} | equal |`,
  );
  const asked = report.asked.map(({ what, ratio, measured, row }) => {
    const verdict = measured === null ? 'not measured' : measured >= ratio ? 'reached' : 'not reached';
    return `| ${what} | ≥ ${ratio}× | ${times(measured)} | ${verdict} | ${row ?? '–'} |`;
  });
  const versions = Object.entries(report.versions).map(([name, version]) => `${name} ${version}`);
  return `## foretoken beside other programs: ${adapterName(report.adapter)}

| program | tokens/s | ± | foretoken at k = 0 is | text |
| --- | --- | --- | --- | --- |
${rows.join('\n')}

| foretoken at k = 0 against | asked | measured | | fastest row |
| --- | --- | --- | --- | --- |
${asked.join('\n')}

Plain greedy decoding of stories-3m, the same weights for all (f16 as published; fp32 holds the same values). ${report.prompts.length} prompts × ${report.maxNewTokens} tokens, ${report.repeatCount} timed runs each, all programs in turn, each in a page of its own and warm. Tokens/s: tokens after the first, by the time from it to the last; median of the runs, ± their median distance from it. Ratios: median of those within one prompt and repeat. The text of each program is compared with ours at k = 0 before it is timed, and in every run.

${versions.join(', ')}. ${report.cores} cores; load of the machine in the minute before ${report.loadAverages[0].toFixed(1)}, after ${report.loadAverages[1].toFixed(1)}. ${report.userAgent}, ${report.date}.
`;
}
