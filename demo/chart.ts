/** The two charts over rounds, drawn by uPlot. Colours come from the style sheet, so that they follow light and dark. */
import uPlot from 'uplot';
import type { Point } from './tally.ts';

type Column = (number | null)[];

/** x, then the series; `data` is what is drawn, and what the table beside the charts is written from. */
export type Charts = {
  acceptance: uPlot;
  speed: uPlot;
  draw(points: readonly Point[]): void;
};

const height = 160;
const rightAxisSize = 28;

export function createCharts(acceptancePlace: HTMLElement, speedPlace: HTMLElement): Charts {
  const acceptance = createChart(
    acceptancePlace,
    [{ scale: 'share', range: [0, 1] }],
    [
      { scale: 'share', color: '--series-now', dash: [5, 4] },
      { scale: 'share', color: '--series-so-far' },
    ],
  );
  const speed = createChart(
    speedPlace,
    [
      { scale: 'perSecond', range: null },
      { scale: 'perRound', range: [0, 8], right: true },
    ],
    [
      { scale: 'perSecond', color: '--series-now', dash: [5, 4] },
      { scale: 'perRound', color: '--series-so-far' },
    ],
  );
  const resizer = new ResizeObserver((entries) => {
    for (const { target, contentRect } of entries) {
      const chart = target === acceptancePlace ? acceptance : speed;
      if (contentRect.width > 0) chart.setSize({ width: Math.floor(contentRect.width), height });
    }
  });
  resizer.observe(acceptancePlace);
  resizer.observe(speedPlace);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
    acceptance.redraw(false, true);
    speed.redraw(false, true);
  });

  return {
    acceptance,
    speed,
    draw(points) {
      // The prefill proposes nothing and has no speed; it is in the table, not in the lines.
      const drawn = points.filter((point) => point.phase !== 'prefill');
      const rounds = drawn.map((point) => point.index);
      const column = (key: keyof Point): Column => drawn.map((point) => point[key] as number | null);
      acceptance.setData([rounds, column('acceptanceNow'), column('acceptanceSoFar')]);
      speed.setData([rounds, column('tokensPerSecondNow'), column('tokensPerRoundNow')]);
      const last = drawn.at(-1);
      acceptancePlace.setAttribute('aria-label', describeAcceptance(last));
      speedPlace.setAttribute('aria-label', describeSpeed(last));
    },
  };
}

type AxisOptions = { scale: string; range: [number, number] | null; right?: boolean };
type SeriesOptions = { scale: string; color: string; dash?: number[] };

/** The bench's rows over k: tokens per second and acceptance. `place` must be on the page. */
export function drawSweep(
  place: HTMLElement,
  rows: readonly { draftLength: number; tokensPerSecond: number; acceptanceRate: number | null }[],
): void {
  const chart = createChart(
    place,
    [
      { scale: 'perSecond', range: null },
      { scale: 'share', range: [0, 1], right: true },
    ],
    [
      { scale: 'perSecond', color: '--series-so-far' },
      { scale: 'share', color: '--series-now', dash: [5, 4] },
    ],
    { range: [0, 7], points: true },
  );
  chart.setData([
    rows.map((row) => row.draftLength),
    rows.map((row) => row.tokensPerSecond),
    rows.map((row) => row.acceptanceRate),
  ]);
  new ResizeObserver(() => {
    if (place.clientWidth > 0) chart.setSize({ width: place.clientWidth, height });
  }).observe(place);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => chart.redraw(false, true));
  const best = rows.reduce((a, b) => (b.tokensPerSecond > a.tokensPerSecond ? b : a));
  place.setAttribute(
    'aria-label',
    `Tokens per second and acceptance over k. Most at k = ${best.draftLength}: ${best.tokensPerSecond.toFixed(1)} tokens per second. The table below has all values.`,
  );
}

function createChart(
  place: HTMLElement,
  axes: AxisOptions[],
  series: SeriesOptions[],
  x: { range: [number, number] | null; points: boolean } = { range: null, points: false },
): uPlot {
  const color = (name: string) => () => getComputedStyle(place).getPropertyValue(name).trim();
  const axisStyle = (): Partial<uPlot.Axis> => ({
    stroke: color('--ink-soft'),
    font: '12px system-ui, sans-serif',
    ticks: { stroke: color('--rule'), width: 1, size: 4 },
    grid: { stroke: color('--rule'), width: 1 },
  });
  const options: uPlot.Options = {
    width: Math.max(200, Math.floor(place.clientWidth)),
    height,
    // The figures are in the tiles and in the table; a second legend would say them again.
    legend: { show: false },
    cursor: { show: false },
    // Room for a right axis in both charts, so that a round stands at the same place in both.
    padding: [8, axes.length > 1 ? 0 : rightAxisSize, 0, 0],
    scales: {
      x: { time: false, range: x.range ?? ((_, _min, max) => [1, Math.max(10, max ?? 10)]) },
      ...Object.fromEntries(
        axes.map(({ scale, range }) => [
          scale,
          {
            range: range ?? ((_: uPlot, _min: number | null, max: number | null) => [0, Math.max(1, (max ?? 1) * 1.1)]),
          },
        ]),
      ),
    },
    axes: [
      { ...axisStyle(), size: 26, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500] },
      ...axes.map(
        ({ scale, right }): uPlot.Axis => ({
          ...axisStyle(),
          scale,
          side: right === true ? 1 : 3,
          size: right !== true ? 54 : scale === 'share' ? 48 : rightAxisSize,
          ...(right === true ? { grid: { show: false } } : {}),
          ...(scale === 'share' ? { values: (_, ticks) => ticks.map((tick) => `${Math.round(tick * 100)} %`) } : {}),
        }),
      ),
    ],
    series: [
      {},
      ...series.map(
        ({ scale, color: name, dash }): uPlot.Series => ({
          scale,
          stroke: color(name),
          width: 2,
          points: { show: x.points },
          ...(dash === undefined ? {} : { dash }),
        }),
      ),
    ],
  };
  return new uPlot(options, [[], ...series.map(() => [])], place);
}

function describeAcceptance(last: Point | undefined): string {
  if (last === undefined) return 'Acceptance rate over rounds. No data yet.';
  if (last.acceptanceNow === null || last.acceptanceSoFar === null) {
    return `Acceptance rate over rounds. Nothing was drafted in ${last.index} rounds.`;
  }
  const now = Math.round(last.acceptanceNow * 100);
  const soFar = Math.round(last.acceptanceSoFar * 100);
  return `Acceptance rate over ${last.index} rounds: now ${now} percent, so far ${soFar} percent. The table below has all values.`;
}

function describeSpeed(last: Point | undefined): string {
  if (last?.tokensPerSecondNow == null) return 'Speed over rounds. No data yet.';
  const perRound = last.tokensPerRoundNow === null ? '' : `, ${last.tokensPerRoundNow.toFixed(1)} tokens per round`;
  return `Speed over ${last.index} rounds: now ${last.tokensPerSecondNow.toFixed(1)} tokens per second${perRound}. The table below has all values.`;
}
