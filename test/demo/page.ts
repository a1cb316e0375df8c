/** What the specs of the demo share: pages without a single console error, and reading what is on them. */
import { test as base, expect, type Page } from '@playwright/test';

type SharedPage = { page: Page; errors: string[] };

/**
 * `page` is a page of the test's own. `loaded` is one with an engine, shared by the tests of a worker, because loading
 * is what takes longest; a test that fails ends its worker, so no test sees what a failed one left. Console errors and
 * page errors fail the test on either; a spec that expects one says so in `expectedErrors`.
 */
export const test = base.extend<{ expectedErrors: RegExp[]; loaded: Page }, { sharedPage: SharedPage }>({
  expectedErrors: [[], { option: true }],
  page: async ({ page, expectedErrors }, use) => {
    const errors = watchErrors(page, expectedErrors);
    await use(page);
    expect(errors).toEqual([]);
  },
  sharedPage: [
    async ({ browser }, use, { project }) => {
      const { baseURL } = project.use;
      const context = await browser.newContext({ ...(baseURL === undefined ? {} : { baseURL }) });
      await context.grantPermissions(['clipboard-read', 'clipboard-write']);
      const page = await context.newPage();
      const errors = watchErrors(page);
      await openPage(page);
      await ready(page);
      await use({ page, errors });
      await context.close();
    },
    { scope: 'worker', timeout: 120_000 },
  ],
  loaded: async ({ sharedPage: { page, errors } }, use) => {
    await page.setViewportSize({ width: 1280, height: 720 });
    await page.emulateMedia({ colorScheme: 'light', reducedMotion: 'no-preference' });
    await use(page);
    expect(errors).toEqual([]);
  },
});

export { expect };

/** The list that grows by every error of this page from now on. */
function watchErrors(page: Page, expected: readonly RegExp[] = []): string[] {
  const errors: string[] = [];
  const note = (text: string) => {
    if (!expected.some((pattern) => pattern.test(text))) errors.push(text);
  };
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') note(message.text());
  });
  page.on('pageerror', (error) => note(String(error)));
  return errors;
}

export type Settings = { prompt?: string; k?: number; maxNewTokens?: number; run?: boolean };

export const lily = 'Once upon a time, there was a little girl named Lily.';

export async function openPage(page: Page, settings: Settings = {}): Promise<void> {
  const params = new URLSearchParams();
  if (settings.prompt !== undefined) params.set('prompt', settings.prompt);
  if (settings.k !== undefined) params.set('k', String(settings.k));
  if (settings.maxNewTokens !== undefined) params.set('maxNewTokens', String(settings.maxNewTokens));
  if (settings.run === true) params.set('run', '1');
  await page.goto(`./?${params}`);
}

export async function ready(page: Page): Promise<void> {
  await expect(page.locator('#start')).toBeEnabled({ timeout: 90_000 });
}

export async function finished(page: Page, state = 'done'): Promise<void> {
  await expect(page.locator('#story')).toHaveAttribute('data-state', state, { timeout: 90_000 });
  await expect(page.locator('#sums')).toBeVisible();
}

/** Fills in the form. */
export async function set(page: Page, { prompt = lily, k = 3, maxNewTokens = 24 }: Settings): Promise<void> {
  await page.locator('#prompt').fill(prompt);
  await page.locator('#draft-length').fill(String(k));
  await page.locator('#max-new-tokens').fill(String(maxNewTokens));
}

/** Writes a story on a loaded page, and waits for its end. */
export async function writeStory(page: Page, settings: Settings): Promise<string> {
  await set(page, settings);
  await page.locator('#start').click();
  await finished(page);
  return storyText(page);
}

/** Runs the race with what the form says. */
export async function runRace(page: Page): Promise<void> {
  await page.locator('#race-start').click();
  await expect(page.locator('#race-result')).toHaveAttribute('data-state', 'done', { timeout: 120_000 });
}

/** Writes two stories at once, unless they are on the page already. */
export async function writeTogether(page: Page): Promise<void> {
  if (((await page.locator('#together-status').textContent()) ?? '').includes('2 stories')) return;
  await page.locator('#together-count').selectOption('2');
  await page.locator('#together-start').click();
  await expect(page.locator('#together-status')).toContainText('2 stories', { timeout: 120_000 });
}

/** Runs the smallest bench, unless its result is on the page already. */
export async function showBench(page: Page): Promise<void> {
  const result = page.locator('#bench-result');
  if ((await result.getAttribute('data-state')) === 'done') return;
  await page.locator('#bench-tokens').fill('8');
  await page.locator('#bench-repeats').fill('1');
  await page.locator('#bench-start').click();
  await expect(result).toHaveAttribute('data-state', 'done', { timeout: 300_000 });
}

export async function storyText(page: Page): Promise<string> {
  return (await page.locator('#story').textContent()) ?? '';
}

export type StoryToken = { kind: string; round: number; position: number; id: number };

export function tokensIn(page: Page, place: string): Promise<StoryToken[]> {
  return page.locator(`${place} .token`).evaluateAll((tokens) =>
    tokens.map(({ dataset }) => ({
      kind: dataset.kind ?? '',
      round: Number(dataset.round),
      position: Number(dataset.position),
      id: Number(dataset.id),
    })),
  );
}

/** Rows of a table's body as text, the row's head first. */
export function tableRows(page: Page, selector: string): Promise<string[][]> {
  return page
    .locator(`${selector} tbody tr`)
    .evaluateAll((rows) =>
      rows.map((row) => [...(row as HTMLTableRowElement).cells].map((cell) => cell.textContent ?? '')),
    );
}

export async function metaInfo(page: Page): Promise<Record<string, unknown>> {
  return JSON.parse((await page.locator('#meta-info').textContent()) ?? '');
}

/** Collects each `data-state` that an element changes to from now on, however briefly; the function returned reads them. */
export async function watchStates(page: Page, id: string): Promise<() => Promise<string[]>> {
  const states = await page.evaluateHandle((id) => {
    const element = document.getElementById(id) as HTMLElement;
    const seen: string[] = [];
    const note = () => {
      const { state = '' } = element.dataset;
      if (seen.at(-1) !== state) seen.push(state);
    };
    new MutationObserver(note).observe(element, { attributes: true, attributeFilter: ['data-state'] });
    return seen;
  }, id);
  return () => states.jsonValue();
}
