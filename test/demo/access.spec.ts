/** Narrow screens, keyboards, screen readers, light and dark. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { Page } from '@playwright/test';
import {
  expect,
  finished,
  openPage,
  ready,
  runRace,
  showBench,
  test,
  tokensIn,
  writeStory,
  writeTogether,
} from './page.ts';

const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

type AxeViolation = { id: string; help: string; nodes: { target: string[]; failureSummary: string }[] };

async function violations(page: Page): Promise<string[]> {
  await page.evaluate(axeSource);
  const found = await page.evaluate(async () => {
    const { axe } = globalThis as unknown as { axe: { run(): Promise<{ violations: AxeViolation[] }> } };
    return (await axe.run()).violations;
  });
  return found.flatMap(({ id, nodes }) =>
    nodes.map((node) => `${id}: ${node.target.join(' ')}: ${node.failureSummary}`),
  );
}

const overflow = (page: Page) =>
  page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);

const longWord = 'veryvery'.repeat(20);

/** Stories, a race and a bench on one page, with all that can be unfolded. */
async function showEverything(page: Page): Promise<void> {
  const prompt = `Once upon a time, there was a ${longWord}long word.`;
  const isThere = async (place: string) => ((await page.locator(place).textContent()) ?? '').includes(longWord);
  if (!(await isThere('#story'))) await writeStory(page, { prompt });
  if (!(await isThere('#lane-plain'))) await runRace(page);
  await expect(page.locator('#lane-speculative')).toHaveAttribute('data-state', 'done');
  await writeTogether(page);
  await showBench(page);
  const folded = page.locator('details:not([open]) > summary');
  while ((await folded.count()) > 0) await folded.first().click();
}

for (const colorScheme of ['light', 'dark'] as const) {
  test(`axe finds nothing in stories, a race and a bench, ${colorScheme}`, async ({ loaded: page }) => {
    await page.emulateMedia({ colorScheme });
    await showEverything(page);
    expect(await violations(page)).toEqual([]);
    await page.getByRole('button', { name: 'Definition: Acceptance rate, now' }).click();
    expect(await violations(page)).toEqual([]);
    await page.keyboard.press('Escape');

    const background = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const brightness = Math.max(...(background.match(/\d+/g) ?? []).slice(0, 3).map(Number));
    expect(brightness > 127).toBe(colorScheme === 'light');
  });

  test(`axe finds nothing while loading and where that failed, at 360 px, ${colorScheme}`, async ({ page }) => {
    await page.setViewportSize({ width: 360, height: 740 });
    await page.emulateMedia({ colorScheme });
    // Made before the route: the file may be asked for late, after the test has let it fail.
    let fail = () => {};
    const failed = new Promise<void>((resolve) => {
      fail = resolve;
    });
    await page.route('**/models/stories-650k/config.json', async (route) => {
      await failed;
      await route.fulfill({ contentType: 'text/html', body: '<!doctype html><title>Not found</title>' });
    });
    await openPage(page);
    await expect(page.locator('#loading')).toBeVisible();
    expect(await violations(page)).toEqual([]);
    expect(await overflow(page)).toBe(0);
    fail();
    await expect(page.locator('#problem')).toContainText('ModelFormatError');
    expect(await violations(page)).toEqual([]);
    expect(await overflow(page)).toBe(0);
  });
}

test('360 px wide, nothing scrolls sideways', async ({ loaded: page }) => {
  await page.setViewportSize({ width: 360, height: 740 });
  await showEverything(page);
  expect(await overflow(page)).toBe(0);
  for (const button of await page.locator('button.define:visible').all()) {
    await button.click();
    const box = await page.locator(':popover-open').boundingBox();
    expect(box!.x).toBeGreaterThanOrEqual(0);
    expect(box!.x + box!.width).toBeLessThanOrEqual(360);
    await page.keyboard.press('Escape');
  }
  // Where the story is below the screen, Start brings it up, with its buttons.
  await page.evaluate(() => scrollTo(0, 0));
  await page.locator('#start').focus();
  await page.keyboard.press('Enter');
  await expect(page.locator('#story .token').first()).toBeInViewport();
  await expect(page.locator('#stop')).toBeInViewport();
  await finished(page);
});

test('the keyboard alone writes a story, stops it, opens a definition, and stops a bench', async ({ page }) => {
  await openPage(page, { prompt: 'A cat', k: 3, maxNewTokens: 500 });
  await ready(page);
  const focused = () => page.evaluate(() => document.activeElement?.id ?? '');
  const tabTo = async (id: string) => {
    for (let i = 0; i < 60; i++) {
      if ((await focused()) === id) return;
      await page.keyboard.press('Tab');
    }
    throw new Error(`Expected Tab to reach #${id} within 60 steps, got to #${await focused()}.`);
  };
  await tabTo('prompt');
  await page.keyboard.press('End');
  await page.keyboard.type(' sat');
  await tabTo('draft-length');
  await page.keyboard.press('ArrowRight');
  await expect(page.locator('#draft-length')).toHaveValue('4');
  await tabTo('start');
  // The focus is visible.
  expect(await page.locator('#start').evaluate((start) => getComputedStyle(start).outlineStyle)).toBe('solid');
  await page.keyboard.press('Enter');
  await expect(page.locator('#story .token[data-round="2"]').first()).toBeVisible();
  expect(await focused()).toBe('stop');
  await page.keyboard.press('Enter');
  await finished(page, 'stopped');
  await expect(page.locator('#start')).toBeFocused();
  expect((await tokensIn(page, '#story')).length).toBeLessThan(500);
  expect(new URL(page.url()).searchParams.get('prompt')).toBe('A cat sat');

  // The next definition after the buttons is a few tabs away.
  for (let i = 0; i < 30; i++) {
    await page.keyboard.press('Tab');
    if (await page.evaluate(() => document.activeElement?.classList.contains('define') === true)) break;
  }
  await page.keyboard.press('Enter');
  await expect(page.locator(':popover-open')).toContainText('Tokens per second');
  await page.keyboard.press('Escape');
  await expect(page.locator(':popover-open')).toHaveCount(0);

  await tabTo('bench-start');
  await page.keyboard.press('Enter');
  await expect(page.locator('#bench-label')).toContainText('k = 0');
  expect(await focused()).toBe('bench-stop');
  await page.keyboard.press('Enter');
  await expect(page.locator('#bench-result')).toHaveAttribute('data-state', 'stopped');
  await expect(page.locator('#bench-status')).toHaveText('Stopped.');
  await expect(page.locator('#bench-start')).toBeFocused();
});

test('every number has a definition one click away', async ({ loaded: page }) => {
  await showEverything(page);
  const terms = await page.locator('#facts > div, .tiles > div').all();
  expect(terms.length).toBe(6 + 6 + 4 + 6); // facts, a story, several, a race
  for (const term of terms) await expect(term.locator('button.define')).toHaveCount(1);
  for (const button of await page.locator('button.define:visible').all()) {
    await button.click();
    await expect(page.locator(':popover-open')).toHaveText(/\S+ \S+ \S+/);
    await page.keyboard.press('Escape');
  }
});
