/** Counts what the GPU is asked for, and says what a request's rounds may ask. */
import { expect } from 'vitest';

type Method = (...args: unknown[]) => unknown;
export type Calls = {
  /** Calls by method. */
  counts: Record<string, number>;
  mappedBytes: number[];
  readBytes: number[];
  /** Dispatches before each submit, since the one before it. */
  dispatches: number[];
  /** Of those, the few-rows matmuls, and how often they read their weights. */
  matmuls: { count: number; weightPasses: number }[];
  /** Blocks of keys and values that each dispatch of attention has workgroups for. */
  blocks: number[];
};

/** Counts what `work` asks of the GPU, by wrapping the methods of its prototypes. */
export async function countCalls(work: () => Promise<void>): Promise<Calls> {
  const calls: Calls = { counts: {}, mappedBytes: [], readBytes: [], dispatches: [], matmuls: [], blocks: [] };
  const restore: (() => void)[] = [];
  let dispatchCount = 0;
  let matmuls = { count: 0, weightPasses: 0 };
  let pipeline = '';
  const wrap = (prototype: object, name: string, see: Method = () => {}): void => {
    const descriptor = Object.getOwnPropertyDescriptor(prototype, name) as PropertyDescriptor;
    const original = descriptor.value as Method;
    restore.push(() => Object.defineProperty(prototype, name, descriptor));
    const value = function (this: unknown, ...args: unknown[]) {
      // Nothing is submitted where a browser must be poked.
      if (name === 'submit' && (args[0] as readonly unknown[]).length === 0) return original.apply(this, args);
      calls.counts[name] = (calls.counts[name] ?? 0) + 1;
      see(...args);
      return original.apply(this, args);
    };
    Object.defineProperty(prototype, name, { ...descriptor, value });
  };
  wrap(GPUQueue.prototype, 'submit', () => {
    calls.dispatches.push(dispatchCount);
    calls.matmuls.push(matmuls);
    dispatchCount = 0;
    matmuls = { count: 0, weightPasses: 0 };
  });
  wrap(GPUComputePassEncoder.prototype, 'setPipeline', (set) => {
    pipeline = (set as GPUComputePipeline).label;
  });
  wrap(GPUQueue.prototype, 'writeBuffer');
  wrap(GPUQueue.prototype, 'onSubmittedWorkDone');
  wrap(GPUComputePassEncoder.prototype, 'dispatchWorkgroups', (x, _y, z) => {
    dispatchCount += 1;
    if (/^attention\b/.test(pipeline)) calls.blocks.push(x as number);
    if (!pipeline.startsWith('matmul_rows')) return;
    matmuls.count += 1;
    matmuls.weightPasses += z as number;
  });
  wrap(GPUBuffer.prototype, 'mapAsync', (_mode, _offset, size) => calls.mappedBytes.push(size as number));
  wrap(GPUBuffer.prototype, 'getMappedRange', (_offset, size) => calls.readBytes.push(size as number));
  for (const name of Object.getOwnPropertyNames(GPUDevice.prototype)) {
    if (name.startsWith('create')) wrap(GPUDevice.prototype, name);
  }
  try {
    await work();
  } finally {
    for (const undo of restore) undo();
  }
  return calls;
}

/**
 * Of a request: a submit and a map for every round, nothing made but encoders, nothing written once it has begun.
 * `short`: another such request of fewer rounds.
 */
export function expectRoundCosts(
  { counts, mappedBytes, readBytes }: Calls,
  short: Calls,
  given: { roundCount: number; draftLength: number; roundsInFlight: number; mapBytes: number },
): void {
  const { roundCount, draftLength, roundsInFlight, mapBytes } = given;
  // The prompt is fed to each model in a submit of its own, only the target's is answered. Behind the last round one that
  // has nothing to do may be in flight.
  const submits = counts.submit as number;
  const answered = submits - (draftLength > 0 ? 1 : 0);
  expect(answered).toBeGreaterThanOrEqual(1 + roundCount);
  expect(answered).toBeLessThanOrEqual(1 + roundCount + roundsInFlight - 1);
  expect(mappedBytes).toEqual(new Array(answered).fill(mapBytes));
  expect(readBytes.length).toBeGreaterThanOrEqual(1 + roundCount);
  expect(Math.max(...readBytes)).toBe(mapBytes);
  const created = Object.entries(counts).filter(([name]) => name.startsWith('create'));
  expect(created).toEqual([['createCommandEncoder', submits]]);
  // The host writes at the start of a request, and waits for nothing but the maps.
  expect(counts.writeBuffer).toBe(short.counts.writeBuffer);
  expect(counts.onSubmittedWorkDone).toBeUndefined();
}
