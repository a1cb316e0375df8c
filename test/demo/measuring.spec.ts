/** The race and the bench. */
import { expect, runRace, set, showBench, tableRows, test, tokensIn, watchStates, writeStory } from './page.ts';

type SweepRow = { draftLength: number; tokensPerSecond: number; acceptanceRate: number | null };

/** Values that the sweep chart has no pixel of their line's colour for, where they belong. */
const missingInSweep = (page: import('@playwright/test').Page, rows: readonly SweepRow[]) =>
  page.locator('#sweep-chart').evaluate((chart, list) => {
    const canvas = chart.querySelector('canvas')!;
    const { data, width } = canvas.getContext('2d')!.getImageData(0, 0, canvas.width, canvas.height);
    const [whole, plot] = [canvas, chart.querySelector('.u-over')!].map((part) => part.getBoundingClientRect());
    const scale = canvas.width / whole!.width;
    const colourOf = (name: string) => {
      const probe = document.createElement('canvas').getContext('2d')!;
      probe.fillStyle = getComputedStyle(chart).getPropertyValue(name).trim();
      probe.fillRect(0, 0, 1, 1);
      return probe.getImageData(0, 0, 1, 1).data;
    };
    const isDrawn = (k: number, share: number, colour: Uint8ClampedArray) => {
      const x = Math.round((plot!.left - whole!.left + (plot!.width * k) / 7) * scale);
      const y = Math.round((plot!.top - whole!.top + plot!.height * (1 - share)) * scale);
      const near = Math.round(4 * scale);
      for (let row = y - near; row <= y + near; row++) {
        for (let column = x - near; column <= x + near; column++) {
          const at = 4 * (row * width + column);
          if ([0, 1, 2, 3].every((channel) => Math.abs((data[at + channel] ?? 0) - colour[channel]!) < 30)) return true;
        }
      }
      return false;
    };
    const top = 1.1 * Math.max(...list.map((row) => row.tokensPerSecond));
    const speeds = list.map((row) => ({
      k: row.draftLength,
      share: row.tokensPerSecond / top,
      line: '--series-so-far',
    }));
    const rates = list.map((row) => ({ k: row.draftLength, share: row.acceptanceRate, line: '--series-now' }));
    return [...speeds, ...rates].filter(({ k, share, line }) => share !== null && !isDrawn(k, share, colourOf(line)));
  }, rows);

const copied = (page: import('@playwright/test').Page) => page.evaluate(() => navigator.clipboard.readText());

test('the race compares the texts, measures, replays, explains, and is copied', async ({ loaded: page }) => {
  await writeStory(page, { k: 3, maxNewTokens: 24 });
  const story = await page.locator('#story').textContent();
  const ids = (await tokensIn(page, '#story')).map((token) => token.id);
  const laneStates = await watchStates(page, 'lane-plain');
  await page.locator('#race-start').click();
  await expect(page.locator('#start')).toBeDisabled();
  await expect(page.locator('#race-result')).toHaveAttribute('data-state', 'done', { timeout: 120_000 });
  await expect(page.locator('#lane-plain')).toHaveAttribute('data-state', 'done');
  await expect(page.locator('#lane-speculative')).toHaveAttribute('data-state', 'done');
  expect((await laneStates()).slice(-2)).toEqual(['running', 'done']);
  await expect(page.locator('#race-texts')).toHaveText('identical');
  for (const lane of ['#lane-plain', '#lane-speculative']) {
    expect((await tokensIn(page, lane)).map((token) => token.id)).toEqual(ids);
    expect(await page.locator(lane).textContent()).toBe(story);
  }
  await expect(page.locator('#lane-plain-clock')).toHaveText(/^\d+\.\d\d s, \d+\.\d tokens\/s$/);

  const figure = async (id: string) => Number.parseFloat((await page.locator(id).textContent()) ?? '');
  const [speedup, predicted, alpha, c, v] = await Promise.all(
    ['#race-speedup', '#race-predicted', '#race-alpha', '#race-c', '#race-v'].map(figure),
  );
  expect(speedup).toBeGreaterThan(0.05);
  const expected = (1 - alpha! ** 4) / (1 - alpha!);
  expect(predicted).toBeCloseTo(expected / (3 * c! + v!), 1);
  const reason = page.locator('#race-reason');
  await expect(reason).toContainText(`at α = ${alpha!.toFixed(2)} a round of 3 drafts yields E = `);
  await expect(reason).toContainText(`k·c + v(k+1) = 3 × ${c!.toFixed(2)} + ${v!.toFixed(2)} = `);
  await expect(reason).toContainText(`measured: ${speedup!.toFixed(2)}×`);
  // The measured figure is the median of the listed ones, and the verdict follows from all of them.
  const method = (await page.locator('#race-method').textContent()) ?? '';
  const listed = (/\(([\d., ]+)\)/.exec(method)?.[1]?.split(', ') ?? []).map(Number).sort((a, b) => a - b);
  expect(listed.length).toBeGreaterThanOrEqual(1);
  expect(listed[listed.length >> 1]).toBe(speedup);
  const [least = 0, most = 0] = [listed[0], listed.at(-1)];
  const verdict = least > 1 ? /pays/ : most < 1 ? /does not pay/ : /pays|does not pay|makes no clear difference/;
  await expect(page.locator('#race-status')).toHaveText(verdict);

  const shown = await laneStates();
  await page.locator('#race-replay').click();
  await expect.poll(laneStates).toEqual([...shown, 'running', 'done']);

  await page.locator('#copy-result').click();
  const text = await copied(page);
  expect(text).toContain(`foretoken on ${await page.locator('#fact-adapter').textContent()}`);
  expect(text).toContain('pair: stories-3m + stories-650k');
  expect(text).toContain('k: 3\n');
  expect(text).toMatch(/acceptance rate: \d+\.\d %, α: 0\.\d{3}/);
  expect(text).toContain(`${speedup!.toFixed(2)}x measured`);
  expect(text).toContain('texts identical');
});

test('a race needs drafts, and can be stopped', async ({ loaded: page }) => {
  await set(page, { k: 0, maxNewTokens: 400 });
  await expect(page.locator('#race-start')).toBeDisabled();
  await expect(page.locator('#race-hint')).toHaveText('Choose k of at least 1 to race.');
  await page.locator('#draft-length').fill('3');
  await page.locator('#race-start').click();
  await page.locator('#race-stop').click();
  await expect(page.locator('#race-result')).toHaveAttribute('data-state', 'stopped');
  await expect(page.locator('#race-status')).toHaveText('Stopped.');
  await expect(page.locator('#race-start')).toBeEnabled();
});

test('less motion: the texts of a race are there at once', async ({ loaded: page }) => {
  await page.emulateMedia({ reducedMotion: 'reduce' });
  await set(page, { k: 3, maxNewTokens: 4 });
  const laneStates = await watchStates(page, 'lane-speculative');
  await runRace(page);
  await expect(page.locator('#lane-speculative')).toHaveAttribute('data-state', 'done');
  expect(await laneStates()).toEqual(['done']);
  expect(await tokensIn(page, '#lane-speculative')).toHaveLength(4);
});

test('the bench checks the tokens, then prints every k, and is copied as JSON and Markdown', async ({
  loaded: page,
}) => {
  await showBench(page);
  const rows = await tableRows(page, '#bench-result [aria-label="Tokens per second for each k"]');
  expect(rows.map(([k]) => k)).toEqual(['0', '1', '2', '3', '4', '5', '6', '7']);
  expect(rows[0]?.[3]).toBe('1.00×');
  for (const [, tokensPerSecond] of rows) expect(Number(tokensPerSecond)).toBeGreaterThan(0);
  await expect(page.locator('#bench-status')).toContainText(/^Speculation (pays|does not pay|makes no difference)/);

  await page.locator('#bench-copy-json').click();
  await expect(page.locator('#bench-copy-json')).toHaveText('Copied');
  const report = JSON.parse(await copied(page));
  expect(report).toMatchObject({ tokensEqual: true, disagreement: null, maxNewTokens: 8, repeatCount: 1 });
  expect(report.costs.v).toHaveLength(8);
  expect(report.rows.filter((row: SweepRow) => row.acceptanceRate !== null)).toHaveLength(7);
  expect(await missingInSweep(page, report.rows)).toEqual([]);
  expect(report.userAgent).toContain('Chrome');
  expect(report.rows.map((row: { tokensPerSecond: number }) => row.tokensPerSecond.toFixed(1))).toEqual(
    rows.map(([, tokensPerSecond]) => tokensPerSecond),
  );
  // A draft step more, a draft pass and its rows more; what is left are the target's pass, its rows and the decision.
  const { dispatchesPerRound, target, draft } = report;
  expect(dispatchesPerRound).toHaveLength(8);
  expect(dispatchesPerRound[0]).toBeGreaterThan(target.dispatchesPerPass);
  for (let k = 1; k < 8; k++) {
    expect(dispatchesPerRound[k] - dispatchesPerRound[k - 1]).toBeGreaterThan(draft.dispatchesPerPass);
  }
  await page.locator('#bench-copy-markdown').click();
  await expect(page.locator('#bench-copy-markdown')).toHaveText('Copied');
  const markdown = await copied(page);
  expect(markdown).toContain('| k | tokens/s | ± | speedup | predicted | acceptance | α | tokens/round |');
  expect(markdown).toContain(`| dispatches per round, k = 0..7 | ${dispatchesPerRound.join(', ')} |`);
  expect(markdown).toContain(await page.locator('#fact-adapter').textContent());
});
