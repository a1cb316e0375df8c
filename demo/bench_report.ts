/** The bench report as text to send: Markdown, and the rows of its tables for the page. */
import type { EngineInfo } from 'foretoken';
import { type BenchReport, modeName } from './bench.ts';
import { adapterName, percent, ratioText } from './words.ts';

export type Table = { head: string[]; rows: string[][] };

export function speedTable(report: BenchReport): Table {
  return {
    head: ['k', 'tokens/s', '±', 'speedup', 'predicted', 'acceptance', 'α', 'tokens/round'],
    rows: report.rows.map((row) => [
      String(row.draftLength),
      row.tokensPerSecond.toFixed(1),
      percent(row.spread, 1),
      ratioText(row.speedup),
      ratioText(row.predictedSpeedup),
      percent(row.acceptanceRate, 1),
      number(row.alpha, 3),
      number(row.tokensPerRound, 2),
    ]),
  };
}

/** Every k of every way of sampling: tokens/s, against k = 0 of the same way, and acceptance. */
export function sampledTable({ sampled }: BenchReport): Table {
  return {
    head: ['sampling', 'k', 'tokens/s', '±', 'speedup', 'acceptance', 'tokens/round'],
    rows: sampled.flatMap((mode) =>
      mode.rows.map((row) => [
        modeName(mode),
        String(row.draftLength),
        row.tokensPerSecond.toFixed(1),
        percent(row.spread, 1),
        ratioText(row.speedup),
        percent(row.acceptanceRate, 1),
        number(row.tokensPerRound, 2),
      ]),
    ),
  };
}

export function verifyTable({ costs }: BenchReport): Table {
  const v = costs?.v ?? [];
  return {
    head: ['rows M', ...v.map((_, i) => String(i + 1))],
    rows: [
      ['v(M)', ...v.map((value) => value.toFixed(2))],
      ['±', ...v.map((_, i) => percent(costs?.vSpread[i] ?? null, 1))],
    ],
  };
}

export function factTable(report: BenchReport): Table {
  const { target, draft, costs } = report;
  const rows: string[][] = [
    ['adapter', adapterName(report.adapter)],
    ['features', report.features.length === 0 ? 'none (baseline WebGPU)' : report.features.join(', ')],
    ['lossless', report.lossless + (report.paddedRows ? ', padded rows' : '')],
    [
      'kernels',
      report.kernelKind === 'lane' ? 'for CPUs: each lane by itself' : 'for GPUs: the lanes of a workgroup together',
    ],
    ['target', modelText(target)],
    ['draft', draft === null ? 'none' : modelText(draft)],
    ['c (draft step / target step)', number(costs?.c ?? null, 3)],
    ['target step, draft step', `${milliseconds(costs?.targetStepMs)}, ${milliseconds(costs?.draftStepMs)}`],
    [
      'dispatches per layer',
      `target ${target.dispatchesPerLayer}${draft === null ? '' : `, draft ${draft.dispatchesPerLayer}`}`,
    ],
    [
      'dispatches per pass',
      `target ${target.dispatchesPerPass}${draft === null ? '' : `, draft ${draft.dispatchesPerPass}`}`,
    ],
    [
      `dispatches per round, k = ${report.dispatchesPerRound.length === 1 ? '0' : '0..7'}`,
      report.dispatchesPerRound.join(', '),
    ],
    ['load time', `${(report.loadTimeMs / 1000).toFixed(2)} s`],
    ['rounds in flight', String(report.roundsInFlight)],
    ['browser', report.userAgent],
    ['date', report.date],
  ];
  return { head: ['fact', 'value'], rows };
}

export function methodText(report: BenchReport): string {
  return (
    `${report.prompts.length} prompts × ${report.maxNewTokens} tokens, greedy${report.sampled.length > 0 ? ' and sampled' : ''}. The greedy and seeded tokens of every k are compared with those ` +
    `of k = 0 before anything is timed. Then ${report.repeatCount} timed ${report.repeatCount === 1 ? 'run' : 'runs'} for each prompt and k, interleaved, the order of k ` +
    'turned each time; tokens/s is the median of the runs, ± their median distance from it, speedup the median of the ' +
    'ratios within one prompt and repeat. Predicted: E / (k·c + v(k+1)).'
  );
}

export function benchMarkdown(report: BenchReport): string {
  const lines = [`## foretoken bench: ${adapterName(report.adapter)}`, '', report.verdict, ''];
  if (report.tokensEqual) {
    lines.push(markdownTable(speedTable(report)), '', markdownTable(verifyTable(report)), '');
    if (report.sampled.length > 0) lines.push(markdownTable(sampledTable(report)), '');
  }
  lines.push(markdownTable(factTable(report)), '');
  if (report.tokensEqual) lines.push(methodText(report), '');
  return lines.join('\n');
}

function markdownTable({ head, rows }: Table): string {
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}

function modelText(model: NonNullable<EngineInfo['draft']>): string {
  const name = model.url.replace(/\/+$/, '').split('/').at(-1) ?? model.url;
  return `${name}: ${model.parameterCount.toLocaleString('en')} parameters, ${model.layerCount} layers × ${model.hiddenSize}`;
}

function milliseconds(value: number | null | undefined): string {
  return value === null || value === undefined ? '–' : `${value.toFixed(2)} ms`;
}

function number(value: number | null, digits: number): string {
  return value === null ? '–' : value.toFixed(digits);
}
