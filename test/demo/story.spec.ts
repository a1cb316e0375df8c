/** The story: its text, its marks, its numbers, its link. */
import {
  expect,
  finished,
  lily,
  metaInfo,
  ready,
  set,
  storyText,
  tableRows,
  test,
  tokensIn,
  watchStates,
  writeStory,
  writeTogether,
} from './page.ts';

test('a story appears, its tokens marked, its adapter named', async ({ loaded: page }) => {
  await expect(page.locator('#fact-adapter')).not.toBeEmpty();
  await expect(page.locator('#fact-lossless')).toHaveText(/^(exact|near-ties)$/);
  const states = await watchStates(page, 'story');
  const text = await writeStory(page, { k: 3, maxNewTokens: 60 });
  expect(await states()).toEqual(['running', 'done']);
  expect(text.startsWith(lily)).toBe(true);
  expect(text.length).toBeGreaterThan(lily.length + 100);
  const tokens = await tokensIn(page, '#story');
  expect(tokens.map((token) => token.position)).toEqual(tokens.map((_, i) => i));
  expect(tokens[0]?.kind).toBe('prefill');
  const kinds = new Set(tokens.slice(1).map((token) => token.kind));
  expect(kinds).toEqual(new Set(['draft', 'bonus']));
  // Told apart without colour: an underline, and a frame with bold type.
  const styles = await page.evaluate(() =>
    ['draft', 'bonus'].map((kind) => {
      const { fontWeight, boxShadow, outlineStyle } = getComputedStyle(
        document.querySelector(`#story [data-kind=${kind}]`) as Element,
      );
      return { fontWeight, underlined: boxShadow !== 'none', framed: outlineStyle !== 'none' };
    }),
  );
  expect(styles).toEqual([
    { fontWeight: '400', underlined: true, framed: false },
    { fontWeight: '600', underlined: false, framed: true },
  ]);
  await expect(page.locator('#story .token').nth(5)).toHaveAttribute('title', /round \d+, position 5/);
  // The ends of paragraphs have no letter to mark, and a sign instead.
  expect(text).toContain('\n');
  const empty = page.locator('#story .token:empty');
  expect(await empty.count()).toBeGreaterThan(0);
  const sign = (token: Element) => getComputedStyle(token, '::before').content;
  expect(await empty.first().evaluate(sign)).toContain('↵');
});

test('two stories at once: their texts, a row for each, gauges over both; nothing moves meanwhile', async ({
  loaded: page,
}) => {
  await set(page, { k: 3, maxNewTokens: 24 });
  await page.evaluate(() => {
    const shifts: number[] = [];
    Object.assign(globalThis, { shifts });
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries() as (PerformanceEntry & { value: number; hadRecentInput: boolean })[]) {
        if (!entry.hadRecentInput) shifts.push(entry.value);
      }
    }).observe({ type: 'layout-shift', buffered: false });
  });
  await writeTogether(page);
  const rows = await tableRows(page, '#together-table');
  expect(rows).toHaveLength(2);
  const sums = { drafted: 0, accepted: 0, rounds: 0 };
  for (const [i, [head, drafted, accepted, rate, length, tokens]] of rows.entries()) {
    const story = page.locator('#together-lanes .story').nth(i);
    expect(head).toBe(String(i + 1));
    expect(await story.locator('.token').count()).toBe(Number(tokens));
    const shown = await story.locator('[data-kind=draft]').count();
    // Of the last round's the limit may have cut some off.
    expect(Number(accepted) - shown).toBeGreaterThanOrEqual(0);
    expect(Number(accepted) - shown).toBeLessThan(3);
    const verifyCount = await story
      .locator('.token:not([data-kind=prefill])')
      .evaluateAll((tokens) => new Set(tokens.map((token) => (token as HTMLElement).dataset.round)).size);
    expect(rate).toBe(`${((Number(accepted) / Number(drafted)) * 100).toFixed(0)} %`);
    expect(length).toBe(((Number(accepted) + verifyCount) / verifyCount).toFixed(2));
    sums.drafted += Number(drafted);
    sums.accepted += Number(accepted);
    sums.rounds += verifyCount;
  }
  await expect(page.locator('#together-rate')).toHaveText(`${((sums.accepted / sums.drafted) * 100).toFixed(0)} %`);
  await expect(page.locator('#together-length')).toHaveText(((sums.accepted + sums.rounds) / sums.rounds).toFixed(2));
  // Shared: fewer rounds of the engine than the stories had together.
  expect(Number(await page.locator('#together-rounds').textContent())).toBeLessThan(sums.rounds);
  expect(await page.evaluate(() => (globalThis as unknown as { shifts: number[] }).shifts)).toEqual([]);
});

test('the charts’ data, the histogram and meta_info are the sums of the rounds in the story', async ({
  loaded: page,
}) => {
  await writeStory(page, { k: 4, maxNewTokens: 80 });
  const tokens = await tokensIn(page, '#story');
  const meta = await metaInfo(page);
  const rows = await tableRows(page, '#chart-table');

  // What the story itself shows, summed anew: per round, the accepted drafts and the tokens.
  const rounds = new Map<number, { drafts: number; tokens: number }>();
  for (const token of tokens) {
    const round = rounds.get(token.round) ?? { drafts: 0, tokens: 0 };
    rounds.set(token.round, {
      drafts: round.drafts + (token.kind === 'draft' ? 1 : 0),
      tokens: round.tokens + 1,
    });
  }
  expect(rows.length).toBe(rounds.size);
  const percent = (accepted: number, drafted: number) => `${((accepted / drafted) * 100).toFixed(1)} %`;
  const verified: { accepted: number; drafted: number }[] = [];
  const histogram = [0, 0, 0, 0, 0];
  for (const [i, [head, phase, drafts, accepted, count, , now, soFar, perSecond, perRound]] of rows.entries()) {
    expect(Number(head)).toBe(i);
    expect(Number(count)).toBe(rounds.get(i)?.tokens);
    if (phase === 'prefill') {
      expect([now, soFar]).toEqual(['–', '–']);
      continue;
    }
    // The last round may have been cut by the limit; its record still says what the target agreed with.
    if (i < rows.length - 1) expect(Number(accepted)).toBe(rounds.get(i)?.drafts);
    verified.push({ accepted: Number(accepted), drafted: Number(drafts) });
    histogram[Number(accepted)]! += 1;
    const sums = (list: typeof verified) =>
      [list.reduce((sum, one) => sum + one.accepted, 0), list.reduce((sum, one) => sum + one.drafted, 0)] as const;
    const window = verified.slice(-10);
    expect(now).toBe(percent(...sums(window)));
    expect(soFar).toBe(percent(...sums(verified)));
    expect(Number(perSecond)).toBeGreaterThan(0);
    expect(perRound).toBe(((sums(window)[0] + window.length) / window.length).toFixed(2));
  }

  const shown = (await tableRows(page, '#histogram')).map(([, count]) => Number(count));
  expect(shown).toEqual(histogram);
  expect(meta.spec_correct_drafts_histogram).toEqual(histogram);
  expect(meta.completion_tokens).toBe(tokens.length);
  expect(meta.spec_verify_ct).toBe(verified.length);
  expect(meta.spec_num_correct_drafts).toBe(verified.reduce((sum, one) => sum + one.accepted, 0));
  expect(meta.spec_num_proposed_drafts).toBe(verified.reduce((sum, one) => sum + one.drafted, 0));
  await expect(page.locator('#sums')).toHaveAttribute('data-equal', 'true');
  await expect(page.locator('#acceptance-so-far')).toHaveText(`${(Number(meta.spec_accept_rate) * 100).toFixed(0)} %`);
  await expect(page.locator('#acceptance-chart')).toHaveAttribute('aria-label', /so far \d+ percent/);
  // Lines were drawn, not only tabulated: the canvas holds the colours of both.
  const colours = await page.locator('#acceptance-chart canvas').evaluate((canvas: HTMLCanvasElement) => {
    const { data } = canvas.getContext('2d')!.getImageData(0, 0, canvas.width, canvas.height);
    let orange = 0;
    let green = 0;
    for (let i = 0; i < data.length; i += 4) {
      const [red = 0, grn = 0, blue = 0, alpha = 0] = data.slice(i, i + 4);
      if (alpha > 200 && red > 150 && grn < 120 && blue < 60) orange += 1;
      if (alpha > 200 && red < 60 && grn > 70 && blue > 50) green += 1;
    }
    return { orange, green };
  });
  expect(colours.orange).toBeGreaterThan(50);
  expect(colours.green).toBeGreaterThan(50);
});

test('k = 0 decodes plainly and gives the same text', async ({ loaded: page }) => {
  const speculative = await writeStory(page, { k: 5, maxNewTokens: 30 });
  const ids = (await tokensIn(page, '#story')).map((token) => token.id);
  expect(await writeStory(page, { k: 0, maxNewTokens: 30 })).toBe(speculative);
  const tokens = await tokensIn(page, '#story');
  expect(tokens.map((token) => token.id)).toEqual(ids);
  expect(new Set(tokens.slice(1).map((token) => token.kind))).toEqual(new Set(['plain']));
  expect(Object.keys(await metaInfo(page)).filter((key) => key.startsWith('spec_'))).toEqual([]);
  await expect(page.locator('#acceptance-so-far')).toHaveText('–');
  await expect(page.locator('#acceptance-chart')).toHaveAttribute('aria-label', /Nothing was drafted/);
});

test('a permalink reproduces the text, and starts only when it says so', async ({ loaded, page }) => {
  const own = 'One day, a “red” bird & a cat = friends? 100 %';
  const text = await writeStory(loaded, { prompt: own, k: 2, maxNewTokens: 40 });
  expect(text.startsWith(own)).toBe(true);
  await loaded.locator('#copy-link').click();
  await expect(loaded.locator('#copy-link')).toHaveText('Copied');
  const link = await loaded.evaluate(() => navigator.clipboard.readText());
  expect(new URL(link).searchParams.get('run')).toBe('1');

  await page.goto(link);
  await finished(page);
  expect(await storyText(page)).toBe(text);

  await page.goto(loaded.url());
  await ready(page);
  await expect(page.locator('#prompt')).toHaveValue(own);
  await expect(page.locator('#draft-length')).toHaveValue('2');
  await expect(page.locator('#max-new-tokens')).toHaveValue('40');
  await expect(page.locator('#story')).toHaveAttribute('data-state', 'idle');
});

test('the settings are in the URL, and Back and Forward walk through those that ran', async ({ loaded: page }) => {
  await writeStory(page, { prompt: 'A cat', k: 1, maxNewTokens: 4 });
  await page.locator('#draft-length').fill('2');
  await page.locator('#draft-length').fill('6');
  expect(new URL(page.url()).searchParams.get('k')).toBe('6');
  await page.locator('#start').click();
  await finished(page);
  await page.locator('#prompt').fill('A dog');
  await page.locator('#prompt').blur();
  expect(new URL(page.url()).searchParams.get('prompt')).toBe('A dog');
  await page.goBack();
  await expect(page.locator('#prompt')).toHaveValue('A cat');
  await expect(page.locator('#draft-length')).toHaveValue('6');
  await page.goBack();
  await expect(page.locator('#draft-length')).toHaveValue('1');
  await page.goForward();
  await page.goForward();
  await expect(page.locator('#prompt')).toHaveValue('A dog');
});

test('Stop ends a story, which keeps what it has, and the next one runs', async ({ loaded: page }) => {
  await set(page, { k: 1, maxNewTokens: 900 });
  await page.locator('#start').click();
  await expect(page.locator('#story .token[data-round="5"]').first()).toBeVisible();
  await page.locator('#stop').click();
  await finished(page, 'stopped');
  const meta = await metaInfo(page);
  expect(meta.finish_reason).toMatchObject({ type: 'abort' });
  const tokens = await tokensIn(page, '#story');
  expect(meta.completion_tokens).toBe(tokens.length);
  expect(tokens.length).toBeLessThan(900);
  await expect(page.locator('#sums')).toHaveAttribute('data-equal', 'true');
  await expect(page.locator('#story-end')).toContainText('stopped');

  await page.locator('#max-new-tokens').fill('8');
  await page.locator('#start').click();
  await finished(page);
  expect((await tokensIn(page, '#story')).map((token) => token.id)).toEqual(
    tokens.slice(0, 8).map((token) => token.id),
  );
});
