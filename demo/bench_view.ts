/** The bench behind its button: progress, tables, and the report to copy. */
import type { Engine } from 'foretoken';
import { type BenchReport, runBench, sampledModes } from './bench.ts';
import {
  benchMarkdown,
  factTable,
  methodText,
  sampledTable,
  speedTable,
  type Table,
  verifyTable,
} from './bench_report.ts';
import { drawSweep } from './chart.ts';
import { type DefinitionKey, definitionButton } from './definitions.ts';
import { byId, copyFrom, element, textAt } from './dom.ts';

export function installBench(page: {
  perform: (work: (engine: Engine, signal: AbortSignal) => Promise<void>) => Promise<void>;
}): void {
  const result = byId('bench-result', HTMLElement);
  const progressBox = byId('bench-progress-box', HTMLElement);
  const progress = byId('bench-progress', HTMLProgressElement);
  const copyJson = byId('bench-copy-json', HTMLButtonElement);
  const copyMarkdown = byId('bench-copy-markdown', HTMLButtonElement);
  let report: BenchReport | null = null;

  byId('bench-form', HTMLFormElement).addEventListener('submit', (event) => {
    event.preventDefault();
    const maxNewTokens = byId('bench-tokens', HTMLInputElement).valueAsNumber;
    const repeatCount = byId('bench-repeats', HTMLInputElement).valueAsNumber;
    const modes = byId('bench-sampled', HTMLInputElement).checked ? sampledModes : [];
    void page.perform(async (engine, signal) => {
      report = null;
      for (const button of [copyJson, copyMarkdown]) button.disabled = true;
      result.hidden = true;
      result.dataset.state = 'running';
      textAt('bench-status', '');
      progressBox.hidden = false;
      try {
        report = await runBench(engine, {
          maxNewTokens,
          repeatCount,
          modes,
          signal,
          onProgress: ({ done, total, label }) => {
            progress.max = total;
            progress.value = done;
            textAt('bench-label', `${label} (${done} of ${total})`);
          },
        });
      } catch (error) {
        result.dataset.state = signal.aborted ? 'stopped' : 'failed';
        textAt('bench-status', signal.aborted ? 'Stopped.' : '');
        throw error;
      } finally {
        progressBox.hidden = true;
      }
      showReport(result, report);
      for (const button of [copyJson, copyMarkdown]) button.disabled = false;
    });
  });

  copyJson.addEventListener('click', () => {
    if (report !== null) void copyFrom(copyJson, JSON.stringify(report, null, 2));
  });
  copyMarkdown.addEventListener('click', () => {
    if (report !== null) void copyFrom(copyMarkdown, benchMarkdown(report));
  });
}

function showReport(place: HTMLElement, report: BenchReport): void {
  textAt('bench-status', report.verdict);
  byId('bench-status', HTMLElement).classList.toggle('warning', !report.tokensEqual);
  const parts: Node[] = [];
  const chart = element('div', { id: 'sweep-chart', className: 'chart', role: 'img' });
  if (report.tokensEqual) {
    parts.push(
      element('figure', {}, [
        element('figcaption', {}, [
          'Every k, greedy ',
          element('span', { className: 'key' }, [element('i', { className: 'line' }), ' tokens per second, left']),
          element('span', { className: 'key' }, [element('i', { className: 'line now' }), ' acceptance, right']),
        ]),
        chart,
      ]),
      tableElement('Tokens per second for each k', speedTable(report), {
        'tokens/s': 'tokensPerSecond',
        '±': 'spread',
        speedup: 'speedup',
        predicted: 'predictedSpeedup',
        acceptance: 'acceptanceSoFar',
        α: 'alpha',
        'tokens/round': 'tokensPerRound',
      }),
      tableElement('Cost of a target pass over M rows', verifyTable(report), { 'v(M)': 'verifyCost', '±': 'spread' }),
    );
    if (report.sampled.length > 0) {
      parts.push(
        tableElement('Tokens per second for each k, sampled', sampledTable(report), {
          'tokens/s': 'tokensPerSecond',
          '±': 'spread',
          speedup: 'speedup',
          acceptance: 'acceptanceSoFar',
          'tokens/round': 'tokensPerRound',
        }),
      );
    }
  }
  parts.push(
    tableElement('Adapter, pair and counts', factTable(report), {
      adapter: 'adapter',
      lossless: 'lossless',
      target: 'model',
      draft: 'model',
      'c (draft step / target step)': 'draftCost',
      'dispatches per layer': 'dispatches',
      'load time': 'loadTime',
    }),
    element('p', { className: 'note', textContent: report.tokensEqual ? methodText(report) : '' }),
    element('details', { className: 'data' }, [
      element('summary', { textContent: 'The report as JSON' }),
      scrollBox(
        'The report as JSON',
        element('pre', { id: 'bench-json', textContent: JSON.stringify(report, null, 2) }),
      ),
    ]),
  );
  place.replaceChildren(...parts);
  place.hidden = false;
  if (report.tokensEqual) drawSweep(chart, report.rows);
  place.dataset.state = 'done';
}

/** `definitions` maps a column head, or the first cell of a row, to the definition behind its button. */
function tableElement(caption: string, { head, rows }: Table, definitions: Record<string, DefinitionKey>): HTMLElement {
  const named = (tag: 'th', scope: 'col' | 'row', text: string) => {
    const cell = element(tag, { scope, textContent: text });
    const key = definitions[text];
    if (key !== undefined) cell.append(' ', definitionButton(key));
    return cell;
  };
  const table = element('table', { className: head[0] === 'fact' ? 'facts-table' : '' }, [
    element('caption', { className: 'hidden', textContent: caption }),
    element('thead', { className: head[0] === 'fact' ? 'hidden' : '' }, [
      element(
        'tr',
        {},
        head.map((text) => named('th', 'col', text)),
      ),
    ]),
    element(
      'tbody',
      {},
      rows.map(([first = '', ...cells]) =>
        element('tr', {}, [named('th', 'row', first), ...cells.map((text) => element('td', { textContent: text }))]),
      ),
    ),
  ]);
  return scrollBox(caption, table);
}

function scrollBox(label: string, content: HTMLElement): HTMLElement {
  const box = element('section', { className: 'scroll fit', tabIndex: 0 }, [content]);
  box.setAttribute('aria-label', label);
  return box;
}
