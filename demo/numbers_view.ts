/** The right column: tiles, charts, table, histogram and meta_info of one request. */
import type { GenerateResult, RoundStats } from 'foretoken';
import { createCharts } from './chart.ts';
import { byId, element, nextFrame, textAt } from './dom.ts';
import { addRound, createTally, differencesFromMeta, type Point, type Tally } from './tally.ts';
import { decimal, percent } from './words.ts';

export type NumbersView = {
  start(draftLength: number): void;
  add(stats: RoundStats): void;
  /** Draws what is still undrawn, shows `meta_info` and compares it with the sums of this page. */
  finish(result: GenerateResult): void;
  readonly tally: Tally;
};

export function createNumbersView(): NumbersView {
  const charts = createCharts(byId('acceptance-chart', HTMLElement), byId('speed-chart', HTMLElement));
  const table = byId('chart-table', HTMLTableElement).tBodies[0]!;
  let tally = createTally(0);
  let drawScheduled = false;

  const draw = (): void => {
    const last = tally.points.at(-1);
    textAt('tokens-per-second', decimal(last?.tokensPerSecondSoFar ?? null, 1));
    textAt('tokens-per-round', decimal(last?.tokensPerRoundSoFar ?? null, 2));
    textAt('acceptance-now', percent(last?.acceptanceNow ?? null));
    textAt('acceptance-so-far', percent(last?.acceptanceSoFar ?? null));
    textAt('token-count', last === undefined ? '–' : String(tally.tokenCount));
    textAt('round-count', last === undefined ? '–' : String(tally.verifyCount + tally.plainCount));
    charts.draw(tally.points);
    drawHistogram(tally.histogram);
    while (table.rows.length < tally.points.length) {
      const point = tally.points[table.rows.length]!;
      // The charts start at round 1; reading back what they hold keeps the table their text alternative, not a second sum.
      const drawn = (chart: 'acceptance' | 'speed', series: number) =>
        charts[chart].data[series]?.[point.index - 1] ?? null;
      table.append(tableRow(point, drawn));
    }
  };

  return {
    get tally() {
      return tally;
    },
    start(draftLength) {
      tally = createTally(draftLength);
      table.replaceChildren();
      textAt('meta-info', 'Generating.');
      byId('sums', HTMLElement).hidden = true;
      draw();
    },
    add(stats) {
      addRound(tally, stats);
      // A GPU finishes rounds faster than a screen shows frames.
      if (drawScheduled) return;
      drawScheduled = true;
      void nextFrame().then(() => {
        drawScheduled = false;
        draw();
      });
    },
    finish({ meta_info }) {
      draw();
      textAt('meta-info', JSON.stringify(meta_info, null, 2));
      const differences = differencesFromMeta(tally, meta_info);
      const sums = byId('sums', HTMLElement);
      sums.hidden = false;
      sums.classList.toggle('warning', differences.length > 0);
      sums.dataset.equal = String(differences.length === 0);
      sums.textContent =
        differences.length === 0
          ? 'Equal to the sums of the rounds on this page.'
          : `Differs from the sums of the rounds on this page: ${differences.join('; ')}.`;
    },
  };
}

function tableRow(point: Point, drawn: (chart: 'acceptance' | 'speed', series: number) => number | null): HTMLElement {
  const cells = [
    point.phase,
    String(point.draftLength),
    String(point.acceptedCount),
    String(point.tokenCount),
    point.roundTimeMs.toFixed(1),
    percent(drawn('acceptance', 1), 1),
    percent(drawn('acceptance', 2), 1),
    decimal(drawn('speed', 1), 1),
    decimal(drawn('speed', 2), 2),
  ];
  return element('tr', {}, [
    element('th', { scope: 'row', textContent: String(point.index) }),
    ...cells.map((textContent) => element('td', { textContent })),
  ]);
}

function drawHistogram(histogram: readonly number[]): void {
  const body = byId('histogram', HTMLTableElement).tBodies[0]!;
  const largest = Math.max(1, ...histogram);
  if (body.getElementsByClassName('bar').length !== histogram.length) {
    body.replaceChildren(
      ...histogram.map((_, i) => {
        const bar = element('span', { className: 'bar' });
        bar.setAttribute('aria-hidden', 'true');
        return element('tr', {}, [
          element('th', { scope: 'row', textContent: String(i) }),
          element('td', {}, [bar, element('span', { className: 'figure' })]),
        ]);
      }),
    );
  }
  for (const [i, count] of histogram.entries()) {
    const cell = body.rows[i]!.cells[1]!;
    (cell.firstElementChild as HTMLElement).style.setProperty('--share', String(count / largest));
    cell.lastElementChild!.textContent = String(count);
  }
}
