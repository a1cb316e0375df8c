import { afterAll, beforeAll, expect, it } from 'vitest';
import { DeviceLostError } from '../../src/errors.ts';
import type { GenerateResult } from '../../src/types.ts';
import { expectUndisturbed, type LossyEngine, openLossyEngine, runRequests } from './device_loss.ts';

const maxNewTokens = 9;
let timeMs = 0;
let lossy: LossyEngine;
let expected: GenerateResult[];
beforeAll(async () => {
  lossy = await openLossyEngine(() => timeMs);
  expected = await runRequests(lossy.engine, maxNewTokens);
});
afterAll(() => lossy.engine.dispose());

it('a device lost in mid-text: the requests go on upon the next one, with the same tokens', async () => {
  let toldAfterwards = 0;
  const end = lossy.engine.on('round', () => {
    if (lossy.openedCount() === 2) toldAfterwards += 1;
  });
  const results = await runRequests(lossy.engine, maxNewTokens, (count) => {
    if (count === 6) lossy.lose();
  });
  end();
  expectUndisturbed(results, expected);
  expect(lossy.openedCount()).toBe(2);
  expect(lossy.headTokens()).toBe(1024);
  expect(toldAfterwards).toBeGreaterThan(2);
});

it('lost again within a minute: gives up with advice', async () => {
  timeMs += 59_000;
  lossy.lose();
  const { result } = lossy.engine.generate('Once', { maxNewTokens: 4 });
  const error = await result.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(DeviceLostError);
  expect((error as Error).message).toMatch(/twice within a minute.*smaller model/);
  expect(lossy.openedCount()).toBe(2);
});
