/** What can be missing or wrong, and what the page says then. */
import { expect, finished, openPage, ready, storyText, test } from './page.ts';

test('without WebGPU the page says so and what to do, and the rest is switched off', async ({ page }) => {
  await page.addInitScript(() => {
    Object.defineProperty(Navigator.prototype, 'gpu', { get: () => undefined, configurable: true });
  });
  await openPage(page, { run: true });
  const panel = page.locator('#problem');
  await expect(panel).toContainText('WebGPU is not available');
  for (const browser of ['Chrome', 'Safari', 'Firefox']) await expect(panel).toContainText(browser);
  for (const id of ['start', 'stop', 'race-start', 'bench-start', 'copy-result']) {
    await expect(page.locator(`#${id}`)).toBeDisabled();
  }
  await expect(page.locator('#loading')).toBeHidden();
});

test.describe('a model that cannot be fetched', () => {
  test.use({ expectedErrors: [/Failed to load resource: the server responded with a status of 404/] });

  test('shows the typed error, and loads when tried again', async ({ page }) => {
    await page.route('**/models/stories-650k/model.safetensors', (route) =>
      route.fulfill({ status: 404, contentType: 'text/plain', body: 'not here' }),
    );
    await openPage(page, { k: 3, maxNewTokens: 8 });
    const panel = page.locator('#problem');
    await expect(panel).toContainText('ModelFetchError');
    await expect(panel).toContainText('model.safetensors');
    await expect(panel).toContainText('404');
    await expect(page.locator('#start')).toBeDisabled();

    await page.unrouteAll();
    await page.locator('#retry').click();
    await ready(page);
    await expect(panel).toBeHidden();
    await page.locator('#start').click();
    await finished(page);
  });
});

test('a model file that is something else shows its typed error', async ({ page }) => {
  await page.route('**/models/stories-3m/config.json', (route) =>
    route.fulfill({ contentType: 'text/html', body: '<!doctype html><title>Not found</title>' }),
  );
  await openPage(page);
  await expect(page.locator('#problem')).toContainText('ModelFormatError');
  await expect(page.locator('#problem')).toContainText('config.json');
});

test('loading tells the bytes of both models, asks no other host, and works under a strict policy', async ({
  page,
  baseURL,
}) => {
  const hosts = new Set<string>();
  page.on('request', (request) => hosts.add(new URL(request.url()).origin));
  await page.route(`${baseURL}?*`, async (route) => {
    const response = await route.fetch();
    await route.fulfill({
      response,
      headers: { ...response.headers(), 'content-security-policy': "default-src 'self'; worker-src 'self'" },
    });
  });
  await page.addInitScript(() => {
    document.addEventListener('DOMContentLoaded', () => {
      const seen: string[] = [];
      const place = document.getElementById('loading') as HTMLElement;
      new MutationObserver(() => {
        seen.push((place.textContent ?? '').replace(/\s+/g, ' '));
        document.documentElement.dataset.progressSeen = JSON.stringify(seen.slice(-400));
      }).observe(place, { subtree: true, childList: true, characterData: true });
    });
  });
  await openPage(page, { k: 3, maxNewTokens: 8, run: true });
  await finished(page);
  expect((await storyText(page)).length).toBeGreaterThan(60);
  const styled = await page.evaluate(() => getComputedStyle(document.querySelector('.columns') as Element).display);
  expect(styled).toBe('grid');
  expect([...hosts]).toEqual([new URL(baseURL ?? '').origin]);

  const seen = (await page.evaluate(() => document.documentElement.dataset.progressSeen)) ?? '';
  expect(seen).toMatch(/Target model \d+\.\d\d MB of 6\.\d\d MB/);
  expect(seen).toMatch(/Draft model \d+\.\d\d MB of 1\.\d\d MB/);
  expect(seen).toContain('Fetched. Now the upload to the GPU');
  for (const name of ['target', 'draft']) {
    const share = await page.locator(`#progress-${name}`).evaluate((bar: HTMLProgressElement) => bar.position);
    expect(share).toBe(1);
  }
});
