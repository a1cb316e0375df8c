import { expect, it } from 'vitest';
import { createEngine } from '../../src/engine.ts';

it('first light', async () => {
  const base = globalThis.location?.href ?? 'http://localhost/';
  const engine = await createEngine({
    target: new URL('/models/stories-3m/', base).href,
    draft: new URL('/models/stories-650k/', base).href,
  });
  console.log(JSON.stringify(engine.info));
  const texts: string[] = [];
  for (const draftLength of [0, 3]) {
    const run = engine.generate('Once upon a time, there was a little girl named Lily.', {
      maxNewTokens: 40,
      draftLength,
    });
    const r = await run.result;
    texts.push(r.text);
    console.log(r.text, JSON.stringify(r.stats), JSON.stringify(r.meta_info));
  }
  console.log(JSON.stringify(await engine.measureCosts()));
  expect(texts[0]).toBe(texts[1]);
  await engine.dispose();
});
