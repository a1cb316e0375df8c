import { DeviceError } from '../errors.ts';
import type { Gpu } from './device.ts';

/** What a `.wgsl` file expects, declared in `kernels/<name>.ts` and compared with the file by a unit test. */
export type Kernel = {
  name: string;
  /** WGSL with the shared parts of `shaders/lib` in front. */
  code: string;
  /** Bindings 0, 1, … of group 0. */
  bindings: readonly { name: string; kind: 'uniform' | 'read' | 'write' }[];
  /** `override` constants that must be given, in any order. */
  overrides: readonly string[];
  /** Fields of `var<uniform> params`, one 4-byte word each; empty without params. */
  params: readonly { name: string; type: 'u32' | 'f32' }[];
};

/** Workgroups in x, y, z. */
export type Grid = readonly [number, number, number];

/**
 * What the host knows of a pass: its rows (T) and an upper bound on the KV blocks of 64 positions. `runs`: stretches of
 * neighbouring rows of one sequence, 1 unless told. `runRows`: most rows of one, where the others may leave it more.
 */
export type PassShape = { rows: number; runs?: number; runRows?: number; blocks: number };

/** One dispatch, ready to be encoded again and again: nothing is created while generating. */
export type Step = {
  label: string;
  bindGroup: GPUBindGroup;
  pipeline: (shape: PassShape) => GPUComputePipeline;
  grid: (shape: PassShape) => Grid;
};

const bufferTypes = { uniform: 'uniform', read: 'read-only-storage', write: 'storage' } as const;
const computeStage = 4; // GPUShaderStage.COMPUTE, which is not a global in Node

function layoutOf(gpu: Gpu, kernel: Kernel): GPUBindGroupLayout {
  let layout = gpu.layouts.get(kernel.name);
  if (layout === undefined) {
    // Explicit, not 'auto': all variants of a kernel share their bind groups.
    layout = gpu.device.createBindGroupLayout({
      label: kernel.name,
      entries: kernel.bindings.map(({ kind }, binding) => ({
        binding,
        visibility: computeStage,
        buffer: { type: bufferTypes[kind] },
      })),
    });
    gpu.layouts.set(kernel.name, layout);
  }
  return layout;
}

/** Compiles a variant of a kernel, once per set of constants. @throws DeviceError with line:column and the WGSL line. */
export function createPipeline(
  gpu: Gpu,
  kernel: Kernel,
  constants: Record<string, number>,
): Promise<GPUComputePipeline> {
  const label = `${kernel.name}${Object.entries(constants)
    .map(([name, value]) => ` ${name}=${value}`)
    .join('')}`;
  let pipeline = gpu.pipelines.get(label);
  if (pipeline === undefined) {
    pipeline = compile(gpu, kernel, constants, label);
    gpu.pipelines.set(label, pipeline);
  }
  return pipeline;
}

async function compile(gpu: Gpu, kernel: Kernel, constants: Record<string, number>, label: string) {
  const code = gpu.rewriteShader?.(label, kernel.code) ?? kernel.code;
  const module = gpu.device.createShaderModule({ label, code });
  try {
    return await gpu.device.createComputePipelineAsync({
      label,
      layout: gpu.device.createPipelineLayout({ label, bindGroupLayouts: [layoutOf(gpu, kernel)] }),
      compute: { module, entryPoint: 'main', constants },
    });
  } catch (error) {
    if (gpu.failure !== null) throw gpu.failure;
    const lines = code.split('\n');
    const messages = (await module.getCompilationInfo()).messages
      .filter(({ type }) => type === 'error')
      .map((m) => `${m.lineNum}:${m.linePos} ${m.message}\n    ${lines[m.lineNum - 1]?.trim() ?? ''}`);
    throw new DeviceError(`Shader ${label} did not compile: ${[(error as Error).message, ...messages].join('\n  ')}`);
  }
}

/** Binds buffers by name. A name too many or too few throws at load, not at the first dispatch. */
export function createBindGroup(gpu: Gpu, kernel: Kernel, buffers: Record<string, GPUBuffer>): GPUBindGroup {
  const missing = kernel.bindings.filter(({ name }) => buffers[name] === undefined);
  if (missing.length > 0 || Object.keys(buffers).length !== kernel.bindings.length) {
    throw new DeviceError(
      `Kernel ${kernel.name} expects the buffers ${kernel.bindings.map(({ name }) => name).join(', ')}, got ${Object.keys(buffers).join(', ')}.`,
    );
  }
  return gpu.device.createBindGroup({
    label: kernel.name,
    layout: layoutOf(gpu, kernel),
    entries: kernel.bindings.map(({ name }, binding) => ({
      binding,
      resource: { buffer: buffers[name] as GPUBuffer },
    })),
  });
}

/** Most workgroups per dimension that baseline WebGPU allows. */
const maxWorkgroups = 65_535;

/** A grid for `count` workgroups in x, folded into y above the limit: shaders read `id.x + id.y * counts.x`. */
export function foldedGrid(count: number): Grid {
  if (count <= maxWorkgroups) return [count, 1, 1];
  const y = Math.ceil(count / maxWorkgroups);
  return [Math.ceil(count / y), y, 1];
}

/** What steps are encoded into: a GPUComputePassEncoder, or what stands for several of them, or for none. */
export type Pass = {
  setPipeline(pipeline: GPUComputePipeline): void;
  setBindGroup(index: number, group: GPUBindGroup): void;
  dispatchWorkgroups(x: number, y: number, z: number): void;
};

/** Encodes one dispatch into an open compute pass. */
export function encodeStep(pass: Pass, step: Step, shape: PassShape): void {
  const [x, y, z] = step.grid(shape);
  pass.setPipeline(step.pipeline(shape));
  pass.setBindGroup(0, step.bindGroup);
  pass.dispatchWorkgroups(x, y, z);
}

/** Dispatches of what `encode` encodes, by encoding it for nobody. */
export function countDispatches(encode: (pass: Pass) => void): number {
  let count = 0;
  const dispatchWorkgroups = () => {
    count += 1;
  };
  encode({ setPipeline() {}, setBindGroup() {}, dispatchWorkgroups });
  return count;
}
