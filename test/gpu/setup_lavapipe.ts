/** What long runs on lavapipe need of Dawn and of Mesa. Benchmarks, on real GPUs, go without. */
export {};

// While a GPU works, Dawn asks it by `setImmediate`, turn after turn, whether it is done. That takes a core from a GPU
// which is the CPU, and gigabytes in long runs: what a turn allocates is freed late.
const { setTimeout } = globalThis;
const ask = (callback: (...args: unknown[]) => void, ...args: unknown[]) => setTimeout(callback, 1, ...args);
Object.assign(globalThis, { setImmediate: ask });

// Mesa 22 specialises a shader to the uniforms it is given, anew at every dispatch, and keeps each copy as long as the
// pipeline lives. Out of a storage buffer they are not looked at.
const change = <T>(name: keyof GPUDevice, see: (descriptor: T) => T): void => {
  const original = GPUDevice.prototype[name] as (descriptor: T) => unknown;
  const value = function (this: GPUDevice, descriptor: T) {
    return original.call(this, see(descriptor));
  };
  Object.defineProperty(GPUDevice.prototype, name, { value, configurable: true });
};
if (!('foretokenUniforms' in globalThis)) {
  Object.assign(globalThis, { foretokenUniforms: 'storage' });
  change<GPUShaderModuleDescriptor>('createShaderModule', (given) => ({
    ...given,
    code: given.code.replaceAll('var<uniform>', 'var<storage, read>'),
  }));
  change<GPUBufferDescriptor>('createBuffer', (given) => ({
    ...given,
    usage: given.usage & GPUBufferUsage.UNIFORM ? given.usage | GPUBufferUsage.STORAGE : given.usage,
  }));
  change<GPUBindGroupLayoutDescriptor>('createBindGroupLayout', (given) => ({
    ...given,
    entries: [...given.entries].map((entry) =>
      entry.buffer?.type === 'uniform' ? { ...entry, buffer: { ...entry.buffer, type: 'read-only-storage' } } : entry,
    ),
  }));
}
