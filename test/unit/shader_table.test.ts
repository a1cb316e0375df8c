import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import type { Kernel } from '../../src/gpu/kernel.ts';
import { FINISH_CODES, FINISH_SHIFT, RECORD_BYTES, RECORD_FIELDS, RECORD_FLAGS } from '../../src/speculative/record.ts';
import { stateFields, stateWords } from '../../src/speculative/sequence.ts';
import { findMismatches, headerEntry, parseWgsl } from './shader_table_check.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const read = (path: string): string => readFileSync(join(root, path), 'utf8');
const names = readdirSync(join(root, 'shaders'))
  .filter((file) => file.endsWith('.wgsl'))
  .map((file) => file.slice(0, -'.wgsl'.length));
const modules = import.meta.glob<Record<string, unknown>>('../../src/kernels/*.ts', { eager: true });

function kernelOf(name: string): Kernel {
  const exports = Object.values(modules[`../../src/kernels/${name}.ts`] ?? {});
  const kernel = exports.find((value) => typeof value === 'object' && value !== null && 'bindings' in value);
  if (kernel === undefined) throw new Error(`Expected src/kernels/${name}.ts to export a Kernel.`);
  return kernel as Kernel;
}

describe('shaders', () => {
  it('are all there', () => {
    expect(names.length).toBeGreaterThan(10);
    const kernelFiles = Object.keys(modules).filter((path) => /code: /.test(read(path.replace('../../', ''))));
    expect(kernelFiles.map((path) => /(\w+)\.ts$/.exec(path)?.[1]).sort()).toEqual([...names].sort());
  });

  it.each(names)('%s.wgsl agrees with its kernel and its own header', (name) => {
    expect(findMismatches(name, read(`shaders/${name}.wgsl`), kernelOf(name))).toEqual([]);
  });

  it.each(names)('%s.wgsl has a twin and a GPU test', (name) => {
    const twin = headerEntry(parseWgsl(read(`shaders/${name}.wgsl`)).header, 'Twin') ?? '';
    expect(twin).toMatch(/^test\/reference\/\w+\.ts$/);
    expect(existsSync(join(root, twin)), `${twin} exists`).toBe(true);
    // Two kernels that share a twin (a split reduction, a tile) may share a test.
    const specs = [`test/gpu/${name}.spec.ts`, twin.replace(/.*\/(\w+)\.ts$/, 'test/gpu/$1.spec.ts')];
    const spec = specs.find((path) => existsSync(join(root, path)));
    expect(spec, `one of ${specs.join(', ')} exists`).toBeDefined();
    expect(read(spec as string)).toContain(`kernels/${name}.ts`);
  });

  it('write the record that the host parses', () => {
    const { structs, constants } = parseWgsl(read('shaders/lib/record.wgsl'));
    const fields = structs.get('RoundRecord') ?? [];
    expect(Object.fromEntries(fields.map(({ name, offset }) => [name, offset / 4]))).toEqual(RECORD_FIELDS);
    expect(fields.at(-1)).toEqual({ name: 'tokens', type: 'array<u32, 8>', offset: RECORD_BYTES - 32 });
    expect(Object.fromEntries(constants)).toMatchObject({
      FLAG_NOOP: RECORD_FLAGS.noop,
      FLAG_NON_FINITE: RECORD_FLAGS.nonFinite,
      FLAG_PREFILL: RECORD_FLAGS.prefill,
      FINISH_SHIFT,
    });
    const state = parseWgsl(read('shaders/lib/state.wgsl'));
    expect(Object.fromEntries(state.constants)).toMatchObject({
      RUNNING: FINISH_CODES.running,
      FINISH_STOP: FINISH_CODES.stop,
      FINISH_LENGTH: FINISH_CODES.length,
    });
  });

  it('read the sequence state that the host writes', () => {
    const fields = parseWgsl(read('shaders/lib/state.wgsl')).structs.get('SequenceState') ?? [];
    const offsets = Object.fromEntries(fields.map(({ name, offset }) => [name, offset / 4]));
    expect(offsets).toEqual(stateFields);
    expect(stateWords).toBe(Math.max(...Object.values(stateFields)) + 1);
  });

  // The GPU tests compile every variant; this finds a slip in seconds where the tool is installed, and costs nothing elsewhere.
  const naga = spawnSync('naga', ['--version']).status === 0;
  it.each(naga ? names : [])('%s.wgsl is valid (naga)', (name) => {
    const folder = mkdtempSync(join(tmpdir(), 'foretoken-wgsl-'));
    try {
      const file = join(folder, `${name}.wgsl`);
      writeFileSync(file, kernelOf(name).code);
      execFileSync('naga', [file], { stdio: 'pipe' });
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe('the comparison', () => {
  const name = 'attention_fold';
  const text = read(`shaders/${name}.wgsl`);
  const kernel = kernelOf(name);
  const planted: readonly [fault: string, change: (text: string) => string, message: RegExp][] = [
    ['a header without a label', (t) => t.replace('// Numerics:', '// Notes:'), /after "Numerics:"/],
    ['another name', (t) => t.replace(`${name}.wgsl:`, 'fold.wgsl:'), /header starts with/],
    ['an override without a line', (t) => t.replace('Overrides: HEAD_DIM', 'Overrides: none'), /lists the overrides/],
    [
      'an override more',
      (t) => t.replace('override HEAD_DIM', 'override WIDTH: u32;\noverride HEAD_DIM'),
      /kernel gives/,
    ],
    ['another workgroup size', (t) => t.replace(/@workgroup_size\(\d+\)/, '@workgroup_size(32)'), /code has 32/],
    ['swapped params', (t) => t.replace(/(\w+: u32,)(\s+)(\w+: u32,)/, '$3$2$1'), /has the params/],
    ['a param of another type', (t) => t.replace('blocksPerSlot: u32', 'blocksPerSlot: f32'), /has the params/],
    ['another binding number', (t) => t.replace('@binding(2)', '@binding(4)'), /binds/],
    ['another access', (t) => t.replace('<storage, read> partials', '<storage, read_write> partials'), /binds/],
    ['a renamed binding', (t) => t.replaceAll('partials', 'blocks'), /binds/],
    [
      'a buffer that the header omits',
      (t) => t.replace('// Out: output', '// Out: result'),
      /"Out:" does not name output/,
    ],
  ];
  it.each(planted)('finds %s', (_fault, change, message) => {
    const changed = change(text);
    expect(changed).not.toBe(text);
    const faults = findMismatches(name, changed, { ...kernel, code: changed });
    expect(faults).toContainEqual(expect.stringMatching(message));
  });

  it('finds code that the kernel does not compile', () => {
    expect(findMismatches(name, `${text}// more\n`, kernel)).toEqual([expect.stringMatching(/other code/)]);
  });

  it('aligns vectors as WGSL does', () => {
    const { structs } = parseWgsl(
      'struct A { a: u32, b: vec2<f32>, c: u32, d: vec3<u32>, e: f32, f: array<u32, 3>, g: vec4f }',
    );
    expect((structs.get('A') ?? []).map(({ name, offset }) => `${name} ${offset}`)).toEqual([
      'a 0',
      'b 8',
      'c 16',
      'd 32',
      'e 44',
      'f 48',
      'g 64',
    ]);
  });
});
