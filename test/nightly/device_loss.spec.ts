/** The device lost at random rounds, 20 times: the texts do not show it. */
import { expect, it } from 'vitest';
import { expectUndisturbed, openLossyEngine, runRequests } from '../gpu/device_loss.ts';
import { createRandom } from '../reference/random.ts';

it('20 losses at random rounds of three requests', async () => {
  const random = createRandom(7);
  let timeMs = 0;
  const lossy = await openLossyEngine(() => timeMs);
  const expected = await runRequests(lossy.engine, 24);
  for (let loss = 0; loss < 20; loss++) {
    timeMs += 61_000;
    const lossAt = random.integer(15);
    const results = await runRequests(lossy.engine, 24, (count) => {
      if (count === lossAt) lossy.lose();
    });
    expectUndisturbed(results, expected);
  }
  expect(lossy.openedCount()).toBeGreaterThanOrEqual(20);
  // A loss behind the last round is met now.
  await lossy.engine.generate('Once', { maxNewTokens: 1 }).result;
  // After a second loss within a minute nothing is tried; a minute later it is.
  lossy.lose();
  timeMs += 30_000;
  await expect(lossy.engine.generate('Once', { maxNewTokens: 4 }).result).rejects.toThrow(/twice within a minute/);
  timeMs += 31_000;
  expect((await lossy.engine.generate('Once', { maxNewTokens: 4 }).result).tokens).toHaveLength(4);
  await lossy.engine.dispose();
});
