/** What the specs of the demo share: opening the page without a single console error, and reading what is on it. */
import { test as base, expect, type Page } from '@playwright/test';

/** A page whose console errors and page errors fail the test; a spec that expects one says so in `expectedErrors`. */
export const test = base.extend<{ expectedErrors: RegExp[] }>({
  expectedErrors: [[], { option: true }],
  page: async ({ page, expectedErrors }, use) => {
    const errors: string[] = [];
    const note = (text: string) => {
      if (!expectedErrors.some((pattern) => pattern.test(text))) errors.push(text);
    };
    page.on('console', (message) => {
      if (message.type() === 'error' || message.type() === 'warning') note(message.text());
    });
    page.on('pageerror', (error) => note(String(error)));
    await use(page);
    expect(errors).toEqual([]);
  },
});

export { expect };

export type Settings = { prompt?: string; k?: number; maxNewTokens?: number; run?: boolean };

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

/** Loads the page, writes a story, and waits for its end. */
export async function writeStory(page: Page, settings: Settings): Promise<string> {
  await openPage(page, settings);
  await ready(page);
  await page.locator('#start').click();
  await finished(page);
  return storyText(page);
}

export async function storyText(page: Page): Promise<string> {
  return (await page.locator('#story').textContent()) ?? '';
}

export type StoryToken = { kind: string; round: number; position: number; id: number };

export function storyTokens(page: Page): Promise<StoryToken[]> {
  return page.locator('#story .token').evaluateAll((tokens) =>
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
