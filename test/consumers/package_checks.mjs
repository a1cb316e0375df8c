/** What can be said of the packed package without a browser. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { publint } from 'publint';
import { formatMessage } from 'publint/utils';
import { workerLines } from '../../tools/vite_plugins.mjs';
import { root, sections } from './harness.mjs';
import { runNode } from './process.mjs';

/** @typedef {(name: string, run: () => unknown) => Promise<void>} Test */

function expectEqual(/** @type {string} */ what, /** @type {unknown} */ got, /** @type {unknown} */ expected) {
  const [a, b] = [JSON.stringify(got), JSON.stringify(expected)];
  if (a !== b) throw new Error(`Expected ${what} to be ${b}, got ${a}.`);
}

/** Every block of the document is a file, a command, the policy, or the worker's line: nothing there goes untried. */
function checkDocument(/** @type {string[]} */ projectSections) {
  const untried = [...sections].flatMap(([title, blocks]) =>
    blocks.filter(({ language, name, text }) => {
      if (title === '') return text.trim() !== workerLines.map((line) => `${line};`).join('\n');
      if (title === 'Content-Security-Policy' && language === 'http') return false;
      return (name === null && language !== 'sh') || !(title === 'The page' || projectSections.includes(title));
    }),
  );
  expectEqual('blocks of docs/bundlers.md that no project uses', untried, []);
  const fences = readFileSync(join(root, 'docs', 'bundlers.md'), 'utf8').match(/^```/gm)?.length;
  const read = [...sections.values()].flat().length;
  expectEqual('number of blocks read from docs/bundlers.md', read, (fences ?? 0) / 2);
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const addresses = [...sections.values()].flat().flatMap(({ text }) => text.match(/foretoken@[\d.]+\d/g) ?? []);
  expectEqual('versions in addresses', [...new Set(addresses)], [`foretoken@${version}`]);
}

/** @param {string} plain folder of a project in which nothing but the tarball was installed */
export async function checkPackage(
  /** @type {Test} */ test,
  /** @type {string} */ tarball,
  /** @type {string} */ plain,
  /** @type {string[]} */ projectSections,
) {
  const installed = join(plain, 'node_modules', 'foretoken');
  const manifest = () => JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8'));

  await test('docs/bundlers.md: every block is tried', () => checkDocument(projectSections));

  await test('package: installs alone, and holds what it should', () => {
    const packages = readdirSync(join(plain, 'node_modules')).filter((name) => !name.startsWith('.'));
    expectEqual('installed packages', packages, ['foretoken']);
    const files = readdirSync(installed, { recursive: true, encoding: 'utf8' });
    const strange = files.filter(
      (path) =>
        !/^(package\.json|README\.md|LICENSE|CHANGELOG\.md|dist([\\/](\w+\.(js|d\.ts)|THIRD_PARTY_LICENSES\.txt))?)$/.test(
          path,
        ),
    );
    expectEqual('unexpected files', strange, []);
    for (const path of ['README.md', 'LICENSE', 'dist/THIRD_PARTY_LICENSES.txt', 'dist/worker.js']) {
      if (!existsSync(join(installed, path))) throw new Error(`Expected the package to hold ${path}.`);
    }
  });

  await test('package: names its worker by the literal expression', () => {
    const index = readFileSync(join(installed, 'dist', 'index.js'), 'utf8');
    const missing = workerLines.find((line) => !index.includes(line));
    if (missing) throw new Error(`Expected dist/index.js to contain ${missing}`);
    const worker = readFileSync(join(installed, 'dist', 'worker.js'), 'utf8');
    const outside = /\bimport\s*\(|\bimport\.meta\b|^\s*import\b|\beval\(|new Function/m.exec(worker);
    if (outside) throw new Error(`Expected dist/worker.js to stand alone, got ${outside[0]}.`);
  });

  await test('package: the sizes in README.md', () => {
    const said = /([\d.]+) kB for the page, ([\d.]+) kB for the worker/.exec(
      readFileSync(join(root, 'README.md'), 'utf8'),
    );
    const actual = ['index.js', 'worker.js'].map(
      (name) => gzipSync(readFileSync(join(installed, 'dist', name)), { level: 9 }).byteLength / 1000,
    );
    // The document may lag behind by a tenth: nobody edits it at every change.
    for (const [i, size] of actual.entries()) {
      if (!(Math.abs(Number(said?.[i + 1]) - size) <= Math.max(1, size / 10))) {
        throw new Error(
          `Expected about ${actual.map((each) => each.toFixed(1)).join(' and ')} kB, got "${said?.[0]}".`,
        );
      }
    }
  });

  await test('package: every export imports in plain Node', async () => {
    const names = Object.keys(manifest().exports).filter((name) => name !== './package.json');
    expectEqual('exports', names, ['.', './worker', './engine']);
    for (const name of names) {
      const specifier = name.replace('.', 'foretoken');
      const script = `const m = await import('${specifier}'); console.log(typeof m.createEngine)`;
      const output = await runNode(plain, ['--input-type=module', '-e', script]);
      expectEqual(`createEngine of ${specifier}`, output.trim(), name === './worker' ? 'undefined' : 'function');
    }
  });

  await test('package: publint', async () => {
    const bytes = readFileSync(tarball);
    const data = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
    const { messages, pkg } = await publint({ pack: { tarball: data }, strict: true });
    expectEqual(
      'messages of publint',
      messages.map((message) => formatMessage(message, pkg)),
      [],
    );
  });

  await test('package: are the types wrong?', () => {
    const attw = join(root, 'node_modules', '@arethetypeswrong', 'cli', 'dist', 'index.js');
    return runNode(plain, [attw, tarball, '--profile', 'esm-only']);
  });
}

/** @param {string} folder of the project of the section on TypeScript */
export async function checkTypes(/** @type {Test} */ test, /** @type {string} */ folder) {
  const compilers = [
    ['5.9', join(root, 'node_modules', 'typescript', 'bin', 'tsc')],
    ['7', join(folder, 'node_modules', 'typescript', 'bin', 'tsc')],
  ];
  for (const [version, tsc] of compilers) {
    for (const resolution of ['bundler', 'nodenext']) {
      await test(`types: TypeScript ${version}, ${resolution}, without @webgpu/types and skipLibCheck`, () => {
        const flags = resolution === 'nodenext' ? ['--module', 'nodenext', '--moduleResolution', 'nodenext'] : [];
        return runNode(folder, [/** @type {string} */ (tsc), '-p', '.', '--skipLibCheck', 'false', ...flags]);
      });
    }
  }
}
