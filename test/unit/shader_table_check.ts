/** Compares a `.wgsl` file with what `src/kernels/<name>.ts` says of it. Parses declarations only, by their line shapes. */
import type { Kernel } from '../../src/gpu/kernel.ts';

export type WgslField = { name: string; type: string; offset: number };
export type WgslBinding = { group: number; binding: number; space: string; name: string; type: string };
export type WgslFacts = {
  /** The comment lines at the top, joined and without their slashes. */
  header: string;
  overrides: string[];
  bindings: WgslBinding[];
  structs: Map<string, WgslField[]>;
  constants: Map<string, number>;
  workgroupSize: number | null;
};

/** Bytes and alignment of a type that occurs in a struct which the host fills or reads. */
function layoutOf(type: string): { size: number; align: number } {
  if (/^(u32|i32|f32)$/.test(type)) return { size: 4, align: 4 };
  const vector = /^vec([234])(?:<(?:u32|i32|f32)>|[uif])$/.exec(type);
  if (vector) {
    const width = Number(vector[1]);
    return { size: 4 * width, align: width === 2 ? 8 : 16 };
  }
  const array = /^array<(u32|i32|f32), (\d+)u?>$/.exec(type);
  if (array) return { size: 4 * Number(array[2]), align: 4 };
  // A runtime-sized array or a struct ends what the host addresses by offset.
  return { size: 0, align: 4 };
}

export function parseWgsl(text: string): WgslFacts {
  const headerLines = /^(?:\/\/[^\n]*\n)*/.exec(text)?.[0].split('\n') ?? [];
  const header = headerLines.map((line) => line.replace(/^\/\/ ?/, '')).join('\n');
  const code = text.replace(/\/\/[^\n]*/g, '');

  const bindings = [...code.matchAll(/@group\((\d+)\)\s*@binding\((\d+)\)\s*var<([^>]+)>\s*(\w+)\s*:\s*([^;]+);/g)].map(
    ([, group, binding, space, name, type]) => ({
      group: Number(group),
      binding: Number(binding),
      space: String(space).replace(/\s+/g, ''),
      name: String(name),
      type: String(type).trim(),
    }),
  );

  const structs = new Map<string, WgslField[]>();
  for (const [, name, body] of code.matchAll(/struct\s+(\w+)\s*\{([^}]*)\}/g)) {
    let offset = 0;
    const fields = [...String(body).matchAll(/(\w+)\s*:\s*((?:[^,<\n]|<[^>]*>)+)/g)].map(([, field, type]) => {
      const { size, align } = layoutOf(String(type).trim());
      offset = Math.ceil(offset / align) * align;
      const placed = { name: String(field), type: String(type).trim(), offset };
      offset += size;
      return placed;
    });
    structs.set(String(name), fields);
  }

  const constants = new Map(
    [...code.matchAll(/const\s+(\w+)\s*=\s*(0x[\da-f]+|\d+)u?;/gi)].map(([, name, value]) => [
      String(name),
      Number(value),
    ]),
  );
  const overrides = [...code.matchAll(/override\s+(\w+)/g)].map(([, name]) => String(name));
  const size = /@workgroup_size\((\d+)\)/.exec(code)?.[1];
  return { header, overrides, bindings, structs, constants, workgroupSize: size === undefined ? null : Number(size) };
}

const spaces = { uniform: 'uniform', read: 'storage,read', write: 'storage,read_write' } as const;

/** One entry of the header comment: from its label to the next one. */
export function headerEntry(header: string, label: string): string | null {
  const found = new RegExp(
    `(?:^|\\s)${label}:\\s*([\\s\\S]*?)(?=\\s(?:In|Out|Dispatch|Overrides|Needs|Numerics|Twin):|$)`,
  ).exec(header);
  return found?.[1]?.trim() ?? null;
}

const same = (a: readonly string[], b: readonly string[]): boolean => a.join() === b.join();

/** What is wrong between a shader and its kernel; empty when they agree. */
export function findMismatches(name: string, text: string, kernel: Kernel): string[] {
  const faults: string[] = [];
  const { header, overrides, bindings, structs, workgroupSize } = parseWgsl(text);
  const say = (fault: string): void => void faults.push(`${name}.wgsl: ${fault}`);

  if (kernel.name !== name) say(`its kernel is named ${kernel.name}`);
  if (!kernel.code.endsWith(text)) say('its kernel compiles other code');
  if (!header.startsWith(`${name}.wgsl: `))
    say(`the header starts with "${header.slice(0, 20)}", not with "${name}.wgsl: "`);
  for (const label of ['In', 'Out', 'Dispatch', 'Overrides', 'Needs', 'Numerics', 'Twin']) {
    if (!headerEntry(header, label)) say(`the header says nothing after "${label}:"`);
  }
  const listed = [...(headerEntry(header, 'Overrides') ?? '').matchAll(/\b[A-Z][A-Z\d_]+\b/g)].map(([word]) => word);
  if (!same(listed, overrides)) say(`the header lists the overrides [${listed}], the code declares [${overrides}]`);
  const stated = /workgroups? of (\d+)/.exec(headerEntry(header, 'Dispatch') ?? '')?.[1];
  if (Number(stated) !== workgroupSize) say(`the header states workgroups of ${stated}, the code has ${workgroupSize}`);

  if (!same([...overrides].sort(), [...kernel.overrides].sort())) {
    say(`declares the overrides [${overrides}], the kernel gives [${kernel.overrides}]`);
  }
  const declared = bindings.map((b) => `${b.group}.${b.binding} ${b.name} ${b.space}`);
  const expected = kernel.bindings.map(({ name, kind }, i) => `0.${i} ${name} ${spaces[kind]}`);
  if (!same(declared, expected)) say(`binds [${declared}], the kernel gives [${expected}]`);
  for (const { name: bound, space } of bindings) {
    if (space === 'uniform') continue;
    const label = space === 'storage,read' ? 'In' : 'Out';
    if (!new RegExp(`\\b${bound}\\b`).test(headerEntry(header, label) ?? '')) say(`"${label}:" does not name ${bound}`);
  }

  const fields = (structs.get('Params') ?? []).map((f) => `${f.offset} ${f.name} ${f.type}`);
  const params = kernel.params.map((p, i) => `${4 * i} ${p.name} ${p.type}`);
  if (!same(fields, params)) say(`has the params [${fields}], the kernel gives [${params}]`);
  return faults;
}
