import { DeviceError, DeviceLimitError, DeviceLostError, WebGPUUnavailableError } from '../errors.ts';
import type { AdapterInfo } from '../types.ts';

/** A device, what it can do, and the first thing that went wrong with it. */
export type Gpu = {
  device: GPUDevice;
  adapter: AdapterInfo;
  features: string[];
  /** Bytes of all live buffers made through `createBuffer`. */
  bytes: number;
  buffers: Set<GPUBuffer>;
  pipelines: Map<string, Promise<GPUComputePipeline>>;
  layouts: Map<string, GPUBindGroupLayout>;
  /** Who waits for this device, where the browser must be poked to see that work is done; null where it need not. */
  pokes: Pokes | null;
  /** Null in use. Tests plant faults through it: label of the variant and its code in, code out. */
  rewriteShader: ((label: string, code: string) => string) | null;
  /** Set once: the device is lost, or reported an error outside of any scope. */
  failure: Error | null;
  /** Rejects with `failure`, never resolves. Race any wait for the GPU against it. */
  failed: Promise<never>;
};

/** How many wait, and what pokes meanwhile: see `promptly` in submit.ts. */
export type Pokes = { waiting: number; timer: ReturnType<typeof setInterval> | null };

/** Limits that bound models; the adapter's own values are requested, never the defaults. */
const requestedLimits = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxComputeWorkgroupStorageSize',
  'maxStorageBuffersPerShaderStage',
] as const;

const retryMs = 500;
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** The high-performance adapter of `gpu` (default `navigator.gpu`). @throws WebGPUUnavailableError */
export async function findAdapter(gpu: GPU | undefined = globalThis.navigator?.gpu): Promise<GPUAdapter> {
  if (gpu === undefined) {
    throw new WebGPUUnavailableError(
      'Expected WebGPU (`navigator.gpu`), found none. Use a browser with WebGPU (Chrome or Edge 113+, Safari 26+, Firefox 141+), ' +
        'over https or on localhost; in Node pass `gpu` from the `webgpu` package to `foretoken/engine`.',
    );
  }
  const request = () => gpu.requestAdapter({ powerPreference: 'high-performance' });
  // A browser whose GPU process has just started, or starts again, has none at first.
  const adapter = (await request()) ?? (await sleep(retryMs).then(request));
  if (adapter === null) {
    throw new WebGPUUnavailableError(
      'Expected a WebGPU adapter, the browser offers none. Check that hardware acceleration is on (chrome://gpu) and the graphics driver is current.',
    );
  }
  return adapter;
}

export function adapterInfo({ info }: GPUAdapter): AdapterInfo {
  const { vendor, architecture, device, description } = info;
  return { vendor, architecture, device, description };
}

/**
 * Opens the high-performance adapter of `gpu` (default `navigator.gpu`).
 * @throws WebGPUUnavailableError without WebGPU or without an adapter; DeviceError if the device is refused.
 */
export async function openGpu(gpu?: GPU): Promise<Gpu> {
  const adapter = await findAdapter(gpu);
  const requiredLimits: Record<string, number> = {};
  for (const name of requestedLimits) requiredLimits[name] = adapter.limits[name];
  let device: GPUDevice;
  try {
    device = await adapter.requestDevice({ label: 'foretoken', requiredLimits });
  } catch (error) {
    throw new DeviceError(
      `The adapter refused a device: ${(error as Error).message}. Close other GPU pages and retry.`,
    );
  }
  let fail: (error: Error) => void = () => {};
  const failed = new Promise<never>((_, reject) => {
    fail = reject;
  });
  failed.catch(() => {}); // whoever waits races it; nobody waiting is no unhandled rejection
  const context: Gpu = {
    device,
    adapter: adapterInfo(adapter),
    ...freshRecords(),
    failed,
  };
  const setFailure = (error: Error) => {
    if (context.failure !== null) return;
    context.failure = error;
    fail(error);
  };
  device.lost.then((info) => {
    setFailure(
      new DeviceLostError(
        `The GPU device was lost (${info.reason || 'unknown'}): ${info.message}. Create the engine again.`,
      ),
    );
  });
  device.addEventListener('uncapturederror', (event) => {
    event.preventDefault();
    setFailure(new DeviceError(`The GPU device reported an error: ${event.error.message}`));
  });
  return context;
}

/** What is noted of a device on which nothing was made yet. */
export function freshRecords(): Omit<Gpu, 'device' | 'adapter' | 'failed'> {
  return {
    features: [],
    bytes: 0,
    buffers: new Set(),
    pipelines: new Map(),
    layouts: new Map(),
    pokes: null,
    rewriteShader: null,
    failure: null,
  };
}

/** Destroyed, and not known to be lost yet: Chromium never settles `lost` of a device that is collected before. */
const closing = new Set<GPUDevice>();

/** Destroys every buffer and the device itself. Calling it again is harmless. */
export function closeGpu(gpu: Gpu): void {
  const { device } = gpu;
  closing.add(device);
  device.lost.then(() => closing.delete(device));
  for (const buffer of gpu.buffers) buffer.destroy();
  gpu.buffers.clear();
  gpu.bytes = 0;
  device.destroy();
}

/** Most bytes that a kernel can bind as one buffer. */
export function bindingLimit({
  maxBufferSize,
  maxStorageBufferBindingSize,
}: Pick<GPUSupportedLimits, 'maxBufferSize' | 'maxStorageBufferBindingSize'>): number {
  return Math.min(maxBufferSize, maxStorageBufferBindingSize);
}

/** @throws DeviceLimitError naming the need, the limit and what to do, if `sizeBytes` cannot be bound as one buffer. */
export function checkBindingSize(
  {
    maxBufferSize,
    maxStorageBufferBindingSize,
  }: Pick<GPUSupportedLimits, 'maxBufferSize' | 'maxStorageBufferBindingSize'>,
  label: string,
  sizeBytes: number,
): void {
  const limit = bindingLimit({ maxBufferSize, maxStorageBufferBindingSize });
  if (sizeBytes <= limit) return;
  throw new DeviceLimitError(
    `Expected ${label} to fit in one buffer binding, it needs ${sizeBytes} bytes and this device allows ${limit}. ` +
      'Use a smaller model or a smaller `contextLength`.',
  );
}
