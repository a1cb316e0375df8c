/** The race and the bench. */
import { expect, openPage, ready, storyTokens, tableRows, test, writeStory } from './page.ts';

const prompt = 'Once upon a time, there was a little girl named Lily.';

test('the race compares the texts, measures, replays, explains, and is copied', async ({ page, context }) => {
  test.setTimeout(240_000);
  await context.grantPermissions(['clipboard-read', 'clipboard-write']);
  await writeStory(page, { prompt, k: 3, maxNewTokens: 24 });
  const ids = (await storyTokens(page)).map((token) => token.id);
  await page.locator('#race-start').click();
  await expect(page.locator('#start')).toBeDisabled();
  await expect(page.locator('#race-result')).toHaveAttribute('data-state', 'done', { timeout: 200_000 });
  await expect(page.locator('#lane-plain')).toHaveAttribute('data-state', 'done');
  await expect(page.locator('#lane-speculative')).toHaveAttribute('data-state', 'done');
  await expect(page.locator('#race-texts')).toHaveText('identical');
  for (const lane of ['#lane-plain', '#lane-speculative']) {
    const laneIds = await page
      .locator(`${lane} .token`)
      .evaluateAll((tokens) => tokens.map((token) => Number(token.dataset.id)));
    expect(laneIds).toEqual(ids);
  }
  await expect(page.locator('#lane-plain-clock')).toHaveText(/^\d+\.\d\d s, \d+\.\d tokens\/s$/);

  const figure = async (id: string) => Number.parseFloat((await page.locator(id).textContent()) ?? '');
  const [speedup, predicted, alpha, c, v] = await Promise.all(
    ['#race-speedup', '#race-predicted', '#race-alpha', '#race-c', '#race-v'].map(figure),
  );
  expect(speedup).toBeGreaterThan(0.05);
  const expected = (1 - alpha! ** 4) / (1 - alpha!);
  expect(predicted).toBeCloseTo(expected / (3 * c! + v!), 1);
  await expect(page.locator('#race-reason')).toContainText(`measured: ${speedup!.toFixed(2)}×`);
  // The measured figure is the median of the listed ones.
  const method = (await page.locator('#race-method').textContent()) ?? '';
  const listed = /\(([\d., ]+)\)/.exec(method)?.[1]?.split(', ').map(Number) ?? [];
  expect(listed.length).toBeGreaterThanOrEqual(1);
  expect([...listed].sort((a, b) => a - b)[listed.length >> 1]).toBe(speedup);
  await expect(page.locator('#race-status')).toContainText(speedup! > 1 ? 'pays' : 'does not pay');

  await page.locator('#race-replay').click();
  await expect(page.locator('#lane-plain')).toHaveAttribute('data-state', 'running');
  await expect(page.locator('#lane-plain')).toHaveAttribute('data-state', 'done');

  await page.locator('#copy-result').click();
  const copied = await page.evaluate(() => navigator.clipboard.readText());
  expect(copied).toContain(`foretoken on ${await page.locator('#fact-adapter').textContent()}`);
  expect(copied).toContain('pair: stories-3m + stories-650k');
  expect(copied).toContain('k: 3\n');
  expect(copied).toMatch(/acceptance rate: \d+\.\d %, α: 0\.\d{3}/);
  expect(copied).toContain(`${speedup!.toFixed(2)}x measured`);
  expect(copied).toContain('texts identical');
});

test('a race needs drafts, and can be stopped', async ({ page }) => {
  await openPage(page, { prompt, k: 0, maxNewTokens: 400 });
  await ready(page);
  await expect(page.locator('#race-start')).toBeDisabled();
  await expect(page.locator('#race-hint')).toHaveText('Choose k of at least 1 to race.');
  await page.locator('#draft-length').fill('3');
  await page.locator('#race-start').click();
  await page.locator('#race-stop').click();
  await expect(page.locator('#race-result')).toHaveAttribute('data-state', 'stopped');
  await expect(page.locator('#race-status')).toHaveText('Stopped.');
  await expect(page.locator('#race-start')).toBeEnabled();
});

test('less motion: the texts of a race are there at once', async ({ page }) => {
  await page.emulateMedia({ reducedMotion: 'reduce' });
  await openPage(page, { prompt, k: 3, maxNewTokens: 12 });
  await ready(page);
  await page.locator('#race-start').click();
  await expect(page.locator('#race-result')).toHaveAttribute('data-state', 'done', { timeout: 100_000 });
  await expect(page.locator('#lane-speculative')).toHaveAttribute('data-state', 'done', { timeout: 200 });
});

test('the bench checks the tokens, then prints every k, and is copied as JSON and Markdown', async ({
  page,
  context,
}) => {
  test.setTimeout(300_000);
  await context.grantPermissions(['clipboard-read', 'clipboard-write']);
  await openPage(page);
  await ready(page);
  await page.locator('#bench-tokens').fill('8');
  await page.locator('#bench-repeats').fill('1');
  await page.locator('#bench-start').click();
  await expect(page.locator('#bench-result')).toHaveAttribute('data-state', 'done', { timeout: 280_000 });
  const rows = await tableRows(page, '#bench-result section:first-child');
  expect(rows.map(([k]) => k)).toEqual(['0', '1', '2', '3', '4', '5', '6', '7']);
  expect(rows[0]?.[3]).toBe('1.00×');
  for (const [, tokensPerSecond] of rows) expect(Number(tokensPerSecond)).toBeGreaterThan(0);
  await expect(page.locator('#bench-status')).toContainText(/^Speculation (pays|does not pay|makes no difference)/);

  await page.locator('#bench-copy-json').click();
  await expect(page.locator('#bench-copy-json')).toHaveText('Copied');
  const report = JSON.parse(await page.evaluate(() => navigator.clipboard.readText()));
  expect(report).toMatchObject({ tokensEqual: true, disagreement: null, maxNewTokens: 8, repeatCount: 1 });
  expect(report.costs.v).toHaveLength(8);
  expect(report.userAgent).toContain('Chrome');
  expect(report.rows.map((row: { tokensPerSecond: number }) => row.tokensPerSecond.toFixed(1))).toEqual(
    rows.map(([, tokensPerSecond]) => tokensPerSecond),
  );
  await page.locator('#bench-copy-markdown').click();
  await expect(page.locator('#bench-copy-markdown')).toHaveText('Copied');
  const markdown = await page.evaluate(() => navigator.clipboard.readText());
  expect(markdown).toContain('| k | tokens/s | ± | speedup | predicted | acceptance | α | tokens/round |');
  expect(markdown).toContain(await page.locator('#fact-adapter').textContent());
});
