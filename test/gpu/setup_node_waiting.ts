/**
 * While a GPU works, Dawn asks it by `setImmediate`, turn after turn, whether it is done. That takes a core from a GPU
 * which is the CPU, and gigabytes in long runs: what a turn allocates is freed late. Benchmarks, on real GPUs, leave it.
 */
const { setTimeout } = globalThis;

const ask = (callback: (...args: unknown[]) => void, ...args: unknown[]) => setTimeout(callback, 1, ...args);
Object.assign(globalThis, { setImmediate: ask });

export {};
