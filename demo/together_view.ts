/** Several stories at once: their texts, what each came to, and the gauges over all of them. */
import type { Engine } from 'foretoken';
import { announce, byId, element } from './dom.ts';
import type { DemoState } from './state.ts';
import { storyDraftLength } from './state.ts';
import { appendRound, startStory } from './story_view.ts';
import { addRound, addStats, emptyGauges, emptyTally, type Gauges, ratesOf } from './together.ts';
import { decimal, percent } from './words.ts';

/** Beside the prompt above. */
const openings = ['Tom had a big red ball.', 'One day, a little dog', 'The sun was warm and'];
const most = openings.length + 1;
const columns = ['story', 'drafted', 'accepted', 'rate', 'length', 'tokens', 'tokens/s'];

type Lane = { place: HTMLElement; cells: HTMLElement[] };

/** Builds the panel; its buttons are there from then on. */
export function buildTogether(): void {
  const tile = (id: string, name: string, define: string) => {
    const mark = element('span');
    mark.dataset.define = define;
    return element('div', {}, [
      element('dt', {}, [`${name} `, mark]),
      element('dd', { id: `together-${id}`, textContent: '–' }),
    ]);
  };
  const count = element('select', { id: 'together-count' });
  for (let n = 2; n <= most; n++) count.append(element('option', { value: String(n), textContent: String(n) }));
  const label = element('label', { htmlFor: 'together-count', textContent: 'Stories' });
  const tableOfAll = element('table', { id: 'together-table' }, [
    element('thead', {}, [
      element(
        'tr',
        {},
        columns.map((name) => element('th', { scope: 'col', textContent: name })),
      ),
    ]),
    element('tbody'),
  ]);
  const scroll = element('section', { className: 'scroll fit', tabIndex: 0 }, [tableOfAll]);
  scroll.setAttribute('aria-label', 'Each story in numbers');
  // Room for a line: its text moves nothing.
  const status = element('p', { id: 'together-status', className: 'note', textContent: '\u00a0' });
  status.setAttribute('role', 'status');
  byId('together', HTMLElement).append(
    element('p', {
      textContent:
        'The prompt above and others, written by one engine at once. They share rounds: one draft pass and one pass of the ' +
        'target for all of them, and each gets the text that it would get alone.',
    }),
    element('div', { className: 'row' }, [
      element('div', { className: 'field' }, [label, count]),
      element('p', { className: 'actions' }, [
        element('button', { type: 'button', id: 'together-start', disabled: true, textContent: 'Write them' }),
        element('button', { type: 'button', id: 'together-stop', disabled: true, textContent: 'Stop' }),
      ]),
    ]),
    element('div', { id: 'together-lanes', className: 'lanes' }),
    element('dl', { className: 'tiles' }, [
      tile('rate', 'acceptance, pooled', 'pooledRate'),
      tile('length', 'tokens per round, pooled', 'pooledLength'),
      tile('rounds', 'shared rounds', 'sharedRounds'),
      tile('speed', 'tokens per second, all', 'togetherSpeed'),
    ]),
    scroll,
    status,
  );
}

export function installTogether(page: {
  settings: () => DemoState;
  perform: (work: (engine: Engine, signal: AbortSignal) => Promise<void>) => Promise<void>;
}): void {
  const count = byId('together-count', HTMLSelectElement);
  const status = byId('together-status', HTMLElement);
  const prompts = (): string[] => [page.settings().prompt, ...openings].slice(0, Number(count.value));
  // Room for all is there before anything is written.
  const show = () => showLanes(prompts());
  count.addEventListener('change', show);
  show();

  byId('together-start', HTMLButtonElement).addEventListener('click', () => {
    const { maxNewTokens, ...settings } = page.settings();
    const draftLength = storyDraftLength({ maxNewTokens, ...settings });
    void page.perform(async (engine, signal) => {
      const lanes = showLanes(prompts());
      status.textContent = '\u00a0';
      count.disabled = true;
      announce(`Writing ${lanes.length} stories at once.`);
      const gauges = emptyGauges();
      const begunAt = performance.now();
      let tokenCount = 0;
      const redraw = () => showGauges(gauges, (tokenCount * 1000) / (performance.now() - begunAt));
      const stopListening = engine.on('round', (event) => {
        addRound(gauges, event);
        redraw();
      });
      const write = async ({ place, cells }: Lane, prompt: string): Promise<void> => {
        const tally = emptyTally();
        let firstAt: number | null = null;
        let position = 0;
        for await (const round of engine.generate(prompt, { maxNewTokens, draftLength, signal })) {
          position = appendRound(place, round, position);
          place.scrollTop = place.scrollHeight;
          addStats(tally, round.stats);
          tokenCount += round.tokens.length;
          const now = performance.now();
          const speed = firstAt === null ? null : ((tally.tokenCount - 1) * 1000) / (now - firstAt);
          firstAt ??= now;
          showRow(cells, [
            String(tally.draftedCount),
            String(tally.acceptedCount),
            percent(ratesOf(tally).rate),
            decimal(ratesOf(tally).length, 2),
            String(tally.tokenCount),
            decimal(speed, 1),
          ]);
          redraw();
        }
      };
      try {
        await Promise.all(prompts().map((prompt, i) => write(lanes[i] as Lane, prompt)));
        signal.throwIfAborted();
        const shared = gauges.roundCount === 0 ? 0 : gauges.recordCount / gauges.roundCount;
        status.textContent = `${lanes.length} stories, ${tokenCount} tokens; ${decimal(shared, 1)} stories to a round on average.`;
      } catch (error) {
        if (signal.aborted) status.textContent = 'Stopped.';
        throw error;
      } finally {
        count.disabled = false;
        stopListening();
      }
    });
  });
}

function showLanes(prompts: readonly string[]): Lane[] {
  const places = prompts.map((prompt, i) => {
    const place = element('div', { className: 'story', tabIndex: 0 });
    place.setAttribute('role', 'region');
    place.setAttribute('aria-label', `Story ${i + 1}`);
    startStory(place, prompt);
    return place;
  });
  const rows = prompts.map((_, i) => {
    const head = element('th', { scope: 'row', textContent: String(i + 1) });
    return element('tr', {}, [head, ...columns.slice(1).map(() => element('td', { textContent: '–' }))]);
  });
  byId('together-lanes', HTMLElement).replaceChildren(...places);
  byId('together-table', HTMLTableElement).tBodies[0]?.replaceChildren(...rows);
  return places.map((place, i) => ({ place, cells: [...(rows[i] as HTMLElement).querySelectorAll('td')] }));
}

function showRow(cells: readonly HTMLElement[], values: readonly string[]): void {
  for (const [i, cell] of cells.entries()) cell.textContent = values[i] ?? '';
}

function showGauges(gauges: Gauges, speed: number): void {
  const { rate, length } = ratesOf(gauges.pooled);
  const values = {
    rate: percent(rate),
    length: decimal(length, 2),
    rounds: String(gauges.roundCount),
    speed: decimal(speed, 1),
  };
  for (const [id, value] of Object.entries(values)) byId(`together-${id}`, HTMLElement).textContent = value;
}
