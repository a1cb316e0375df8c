import { expect, test } from 'vitest';
import { WebGPUUnavailableError } from '../../../src/errors.ts';
import { findAdapter } from '../../../src/gpu/device.ts';

/** A browser that answers requests for an adapter with these, one after another. */
function answering(...answers: (GPUAdapter | null)[]) {
  const asked: (GPURequestAdapterOptions | undefined)[] = [];
  const requestAdapter: GPU['requestAdapter'] = async (options) => {
    asked.push(options);
    return answers[asked.length - 1] ?? null;
  };
  return { asked, gpu: { requestAdapter } as GPU };
}

const adapter = { info: {} } as GPUAdapter;

test('asks once more where there was no adapter at first, as while a GPU process starts', async () => {
  const { asked, gpu } = answering(null, adapter);
  expect(await findAdapter(gpu)).toBe(adapter);
  expect(asked).toEqual([{ powerPreference: 'high-performance' }, { powerPreference: 'high-performance' }]);
});

test('does not wait for an adapter that is there, and gives up where there is none', async () => {
  const there = answering(adapter);
  expect(await findAdapter(there.gpu)).toBe(adapter);
  expect(there.asked).toHaveLength(1);
  const none = answering();
  await expect(findAdapter(none.gpu)).rejects.toThrow(WebGPUUnavailableError);
  expect(none.asked).toHaveLength(2);
});
