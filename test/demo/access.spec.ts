/** Narrow screens, keyboards, screen readers, light and dark. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { Page } from '@playwright/test';
import { expect, finished, openPage, ready, storyTokens, test, writeStory } from './page.ts';

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

for (const colorScheme of ['light', 'dark'] as const) {
  test(`axe finds nothing, ${colorScheme}`, async ({ page }) => {
    test.setTimeout(240_000);
    await page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
    await openPage(page, { k: 3, maxNewTokens: 24 });
    expect(await violations(page)).toEqual([]);
    await ready(page);
    await page.locator('#start').click();
    await finished(page);
    await page.locator('.data summary').first().click();
    await page.locator('#race-start').click();
    await expect(page.locator('#race-result')).toHaveAttribute('data-state', 'done', { timeout: 100_000 });
    await page.locator('#bench-tokens').fill('8');
    await page.locator('#bench-repeats').fill('1');
    await page.locator('#bench-start').click();
    await expect(page.locator('#bench-result')).toHaveAttribute('data-state', 'done', { timeout: 200_000 });
    await page.locator('#bench-result summary').click();
    expect(await violations(page)).toEqual([]);
    await page.getByRole('button', { name: 'Definition: Acceptance rate, now' }).click();
    expect(await violations(page)).toEqual([]);

    const background = await page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const brightness = Math.max(...(background.match(/\d+/g) ?? []).slice(0, 3).map(Number));
    expect(brightness > 127).toBe(colorScheme === 'light');
  });
}

test('360 px wide, nothing scrolls sideways', async ({ page }) => {
  test.setTimeout(240_000);
  await page.setViewportSize({ width: 360, height: 740 });
  const overflow = () =>
    page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  const prompt = `Once upon a time, there was a ${'veryvery'.repeat(20)}long word.`;
  await openPage(page, { prompt, k: 3, maxNewTokens: 24 });
  expect(await overflow()).toBe(0);
  await ready(page);
  await page.locator('#start').click();
  await finished(page);
  await page.locator('.data summary').first().click();
  expect(await overflow()).toBe(0);
  await page.locator('#race-start').click();
  await expect(page.locator('#race-result')).toHaveAttribute('data-state', 'done', { timeout: 100_000 });
  await page.locator('#bench-tokens').fill('8');
  await page.locator('#bench-repeats').fill('1');
  await page.locator('#bench-start').click();
  await expect(page.locator('#bench-result')).toHaveAttribute('data-state', 'done', { timeout: 200_000 });
  await page.locator('#bench-result summary').click();
  expect(await overflow()).toBe(0);
  for (const button of await page.locator('button.define:visible').all()) {
    await button.click();
    const box = await page.locator(':popover-open').boundingBox();
    expect(box!.x).toBeGreaterThanOrEqual(0);
    expect(box!.x + box!.width).toBeLessThanOrEqual(360);
    await page.keyboard.press('Escape');
  }
});

test('the keyboard alone writes a story, stops it, and opens a definition', async ({ page }) => {
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
  expect((await storyTokens(page)).length).toBeLessThan(500);
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
});

test('every number has a definition one click away', async ({ page }) => {
  await writeStory(page, { k: 2, maxNewTokens: 8 });
  const terms = await page.locator('#facts > div, .tiles > div').all();
  expect(terms.length).toBe(6 + 6 + 6);
  for (const term of terms) await expect(term.locator('button.define')).toHaveCount(1);
  for (const button of await page.locator('button.define:visible').all()) {
    await button.click();
    await expect(page.locator(':popover-open')).toHaveText(/\S+ \S+ \S+/);
    await page.keyboard.press('Escape');
  }
});
