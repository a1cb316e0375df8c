import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { findViolations } from './layering_check.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

function readTree(folder: string, extensions: RegExp): Record<string, string> {
  const paths = readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .map((path) => `${folder}/${path.replaceAll('\\', '/')}`)
    .filter((path) => extensions.test(path) && !/^demo\/(dist|public)\//.test(path));
  return Object.fromEntries(paths.map((path) => [path, readFileSync(join(root, path), 'utf8')]));
}

describe('layers', () => {
  it('hold in this tree', () => {
    const files = {
      ...readTree('src', /\.ts$/),
      ...readTree('shaders', /\.wgsl$/),
      ...readTree('demo', /\.(ts|html|css)$/),
    };
    expect(Object.keys(files).length).toBeGreaterThan(40);
    expect(findViolations(files)).toEqual([]);
  });

  const planted: readonly [name: string, path: string, text: string, message: RegExp][] = [
    ['an upward import', 'src/gpu/buffers.ts', "import { x } from '../kernels/rows.ts';", /upwards/],
    ['an upward type import', 'src/types.ts', "import type { X } from './gpu/device.ts';", /upwards/],
    ['an upward re-export', 'src/model/config.ts', "export * from '../speculative/record.ts';", /upwards/],
    ['an upward type in passing', 'src/model/config.ts', "let x: import('../engine.ts').X;", /upwards/],
    ['an upward dynamic import', 'src/model/config.ts', "await import('../engine.ts');", /upwards/],
    ['a computed import', 'src/model/config.ts', 'await import(name);', /no file may/],
    ['a package without a door', 'src/model/config.ts', "import x from 'lodash';", /no file may/],
    ['a demo that imports sources', 'demo/main.ts', "import { x } from '../src/index.ts';", /by its name/],
    ['a source that imports the demo', 'src/index.ts', "import { x } from '../demo/dom.ts';", /by its name/],
    ['a source that imports the package', 'src/engine.ts', "import { x } from 'foretoken';", /only demo\/ may/],
    ['a file without a rank', 'src/helpers.ts', '', /no rank/],
    ['device.createBuffer', 'src/engine.ts', 'gpu.device.createBuffer({});', /only src\/gpu\//],
    ['device["createBindGroup"]', 'src/kernels/rows.ts', "device['createBindGroup']({});", /only src\/gpu\//],
    ['a renamed createBuffer', 'src/engine.ts', 'const { createBuffer: make } = device;', /only src\/gpu\//],
    ['requestDevice', 'src/engine.ts', 'adapter.requestDevice();', /only src\/gpu\//],
    ['mapAsync in gpu/', 'src/gpu/buffers.ts', 'await buffer.mapAsync(1);', /only src\/gpu\/readback\.ts/],
    ['mapAsync elsewhere', 'src/speculative/round.ts', 'staging.mapAsync(1);', /only src\/gpu\/readback\.ts/],
    [
      'a shader in model/',
      'src/model/config.ts',
      "import x from '../../shaders/rows.wgsl?raw';",
      /only src\/kernels\//,
    ],
    ['a tokenizer elsewhere', 'src/engine.ts', "import { Tokenizer } from '@huggingface/tokenizers';", /tokenizer\.ts/],
    [
      'a template engine elsewhere',
      'src/chat.ts',
      "import { parse } from '@huggingface/jinja';",
      /chat_template\.ts may/,
    ],
    ['another package of that scope', 'src/model/load.ts', "import { x } from '@huggingface/hub';", /no file may/],
    ['comlink elsewhere', 'src/engine.ts', "import { proxy } from 'comlink';", /client\.ts/],
    ['document', 'src/client.ts', "document.createElement('p');", /only demo\//],
    ['globalThis.document', 'src/client.ts', "globalThis.document.querySelector('p');", /only demo\//],
    ['window', 'src/engine.ts', 'const w = window;', /only demo\//],
    ['a long file', 'src/engine.ts', '// x\n'.repeat(401), /401 lines/],
    ['a long shader', 'shaders/rows.wgsl', '// x\n'.repeat(401), /401 lines/],
  ];
  it.each(planted)('find %s', (_name, path, text, message) => {
    expect(findViolations({ [path]: text })).toEqual([expect.stringMatching(message)]);
  });

  it('find a circle', () => {
    const files = {
      'src/model/a.ts': "import { b } from './b.ts';",
      'src/model/b.ts': "import { c } from './c.ts';",
      'src/model/c.ts': "import { a } from './a.ts';",
    };
    expect(findViolations(files)).toEqual([
      expect.stringMatching(/circle: src\/model\/a\.ts → .* → src\/model\/a\.ts/),
    ]);
  });

  it('let allowed things pass', () => {
    const files = {
      'src/client.ts': "import { wrap } from 'comlink';\nconst base = globalThis.document?.baseURI;",
      'src/gpu/readback.ts': '// document. window. mapAsync\nstaging.mapAsync(1); device.createBuffer({});',
      'src/kernels/rows.ts': "import x from '../../shaders/rows.wgsl?raw';\nimport { y } from '../gpu/buffers.ts';",
      'src/model/config.ts':
        "const s = 'document.write device.createBuffer mapAsync'; f({ window: 3 }); record.window;\nconst window = 1; f(window);",
      'demo/main.ts':
        "import { createEngine } from 'foretoken';\nimport './dom.ts';\nimport 'uplot/dist/uPlot.min.css';\ndocument.body;",
    };
    expect(findViolations(files)).toEqual([]);
  });
});
