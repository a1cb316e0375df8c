/**
 * `npm run build`: dist/index.js, dist/worker.js, dist/engine.js and their declarations. Each script is one file that
 * imports nothing: a worker is fetched alone, and whoever installs the package installs nothing else.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join, relative, sep } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { build } from 'vite';
import { inlineShaders, keepWorkerLines, workerLines } from './vite_plugins.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const dist = join(root, 'dist');
const entries = ['index', 'worker', 'engine'];

/** Bundles one entry point. Returns the folders of the packages that went into it. */
async function bundle(/** @type {string} */ name) {
  const result = await build({
    configFile: false,
    root,
    logLevel: 'warn',
    publicDir: false,
    plugins: [inlineShaders(), keepWorkerLines()],
    build: {
      outDir: dist,
      emptyOutDir: false,
      target: 'es2022',
      // Only the worker is used as it is; the others pass through the bundler of whoever imports them.
      minify: name === 'worker' ? 'oxc' : false,
      modulePreload: false,
      rolldownOptions: {
        input: join(root, 'src', `${name}.ts`),
        preserveEntrySignatures: 'strict',
        output: { format: 'es', entryFileNames: `${name}.js`, codeSplitting: false },
      },
    },
  });
  if (Array.isArray(result) || !('output' in result)) throw new Error(`Expected one output for ${name}.`);
  const [chunk, ...others] = result.output;
  if (others.length > 0) {
    throw new Error(
      `Expected ${name}.js to be one file, got also ${others.map(({ fileName }) => fileName).join(', ')}.`,
    );
  }
  const { imports, dynamicImports, moduleIds } = chunk;
  if (imports.length + dynamicImports.length > 0) {
    throw new Error(`Expected ${name}.js to import nothing, got ${[...imports, ...dynamicImports].join(', ')}.`);
  }
  const packages = moduleIds.map((id) => /^(.*[\\/]node_modules[\\/](?:@[^\\/]+[\\/])?[^\\/]+)/.exec(id)?.[1]);
  return packages.filter((folder) => folder !== undefined);
}

/** The licence texts of all that is bundled. Each of these licences asks to be handed on. */
function writeLicences(/** @type {string[]} */ packages) {
  const texts = [...new Set(packages)].sort().map((folder) => {
    const { name, version, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
    return `${name} ${version} (${license})\n\n${readFileSync(join(folder, 'LICENSE'), 'utf8').trim()}\n`;
  });
  writeFileSync(join(dist, 'THIRD_PARTY_LICENSES.txt'), texts.join(`\n${'-'.repeat(80)}\n\n`));
}

/** Writes the declarations that the entry points reach, and no others: kernels and buffers are nobody's business. */
function writeDeclarations() {
  const temporary = mkdtempSync(join(tmpdir(), 'foretoken-types-'));
  try {
    const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
    const args = [tsc, '-p', join(root, 'tsconfig.build.json'), '--outDir', temporary];
    if (spawnSync(process.execPath, args, { cwd: root, stdio: 'inherit' }).status !== 0) throw new Error('tsc failed.');

    const pending = entries.map((name) => join(temporary, `${name}.d.ts`));
    const reached = new Set(pending);
    for (const file of reached) {
      const text = readFileSync(file, 'utf8').replace(
        /((?:from|import\()\s*)(['"])(\.{1,2}\/[^'"]+)\.ts\2/g,
        (_, before, quote, path) => {
          reached.add(join(dirname(file), `${path}.d.ts`));
          return `${before}${quote}${path}.js${quote}`;
        },
      );
      const path = relative(temporary, file);
      if (path.includes(sep)) throw new Error(`Expected the public types in src/ itself, got dist/${path}.`);
      const leak = /\bGPU[A-Z]\w*|@webgpu\/types|reference types=/.exec(text);
      if (leak) throw new Error(`Expected dist/${path} to need no types beyond the DOM's, got ${leak[0]}.`);
      writeFileSync(join(dist, path), text);
    }
    return [...reached].map((file) => basename(file));
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

rmSync(dist, { recursive: true, force: true });
const packages = [];
for (const name of entries) packages.push(...(await bundle(name)));
writeLicences(packages);
const declarations = writeDeclarations();

const index = readFileSync(join(dist, 'index.js'), 'utf8');
for (const line of workerLines) {
  if (!index.includes(line)) throw new Error(`Expected dist/index.js to contain \`${line}\` as it is.`);
}

for (const name of entries) {
  const bytes = readFileSync(join(dist, `${name}.js`));
  const kilobytes = (/** @type {number} */ size) => `${(size / 1000).toFixed(1)} kB`;
  console.log(
    `dist/${name}.js  ${kilobytes(bytes.byteLength)}, gzip ${kilobytes(gzipSync(bytes, { level: 9 }).byteLength)}`,
  );
}
console.log(`types: ${declarations.join(', ')}`);
