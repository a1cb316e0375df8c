/**
 * `npm run test:consumers`: packs the package, installs the tarball in empty projects outside this repository, builds
 * them, and generates a text in Chromium in each. The projects are the code blocks of docs/bundlers.md.
 *   --only TEXT   tests whose name contains it     --keep   leave the projects where they are
 */
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { chromium } from '@playwright/test';
import { chooseAdapter, ensureBrowser, launchOptions } from '../browser.mjs';
import {
  chat,
  commandOf,
  createReader,
  createTester,
  freePort,
  makeProject,
  publicFolder,
  root,
  runCommand,
  sections,
  usage,
} from './harness.mjs';
import { checkPackage, checkTypes } from './package_checks.mjs';
import { npm, startServer } from './process.mjs';
import { serveFolder } from './server.mjs';

const { values } = parseArgs({
  options: { json: { type: 'string' }, only: { type: 'string' }, keep: { type: 'boolean', default: false } },
});
const { count, test } = createTester(values.only);
const work = mkdtempSync(join(tmpdir(), 'foretoken-consumers-'));

/** The policy of the document, as a header. */
const policy = sections.get('Content-Security-Policy')?.find(({ language }) => language === 'http')?.text ?? '';
const [policyName = '', policyValue = ''] = policy.trim().split(/:\s*(.*)/, 2);
const strict = { [policyName]: policyValue };

const browserFound = await ensureBrowser();
const { line } = await chooseAdapter(browserFound);
console.log(`adapter: ${line}`);
await npm(root, ['pack', '--silent', '--pack-destination', work]);
const tarball = join(work, readdirSync(work).find((name) => name.endsWith('.tgz')) ?? '');
const browser = await chromium.launch(launchOptions(browserFound));
const expectStory = createReader(browser);

try {
  const make = (/** @type {string} */ section) => makeProject(work, section, tarball);
  const plain = make('No bundler');
  const vite = make('Vite');
  const vite7 = make('Vite 7 and earlier');
  const esbuild = make('esbuild');
  const webpack = make('webpack');
  const typescript = make('TypeScript');
  const byPath = make('Content-Security-Policy');
  const cdn = make('From a CDN');
  const next = make('Next');
  const projects = [plain, vite, vite7, esbuild, webpack, typescript, byPath, cdn, next];

  await plain.installed;
  await checkPackage(
    test,
    tarball,
    plain.folder,
    projects.map(({ section }) => section),
  );

  await test('no bundler: an import map', async () => expectStory(await serveFolder(plain.folder, publicFolder)));

  await test('README.md: the usage block', async () => {
    // The page of the project above, with that block for its script and two lines that show what its variables hold.
    const page = readFileSync(join(plain.folder, 'index.html'), 'utf8').replace('/src/main.js', '/src/usage.js');
    const show =
      "document.querySelector('#story').textContent = text;\n" +
      // biome-ignore lint/suspicious/noTemplateCurlyInString: a template of the page's own.
      "document.querySelector('#rate').textContent = `${stats.acceptedCount} of ${stats.draftedCount} drafts accepted`;";
    writeFileSync(join(plain.folder, 'usage.html'), page);
    writeFileSync(join(plain.folder, 'src', 'usage.js'), `${usage}\n${show}\n`);
    const served = await serveFolder(plain.folder, publicFolder);
    let printed = '';
    const story = await expectStory({ ...served, url: `${served.url}usage.html` }, async (page) => {
      page.on('framenavigated', () => {
        printed = '';
      });
      page.on('console', (message) => {
        if (message.type() === 'log') printed += /^(.*) \d$/s.exec(message.text())?.[1] ?? `[${message.text()}]`;
      });
    });
    if (printed !== story) throw new Error(`Expected "${story}" on the console, got "${printed}".`);
  });

  for (const project of [vite, vite7]) {
    await test(`${project.section.toLowerCase()}: development`, async () => {
      await project.installed;
      commandOf(project, 'npx vite');
      const program = join(project.folder, 'node_modules', 'vite', 'bin', 'vite.js');
      const port = String(await freePort());
      await expectStory(
        await startServer(project.folder, [program, '--port', port, '--strictPort', '--host', 'localhost']),
      );
    });
  }

  await test('vite: build, under the policy', async () => {
    await runCommand(vite, 'npx vite build');
    await expectStory(await serveFolder(join(vite.folder, 'dist'), publicFolder, strict));
  });

  await test('esbuild, under the policy', async () => {
    await runCommand(esbuild, 'npx esbuild');
    await expectStory(await serveFolder(join(esbuild.folder, 'public'), publicFolder, strict));
  });

  await test('webpack, under the policy', async () => {
    await runCommand(webpack, 'npx webpack');
    await expectStory(await serveFolder(join(webpack.folder, 'public'), publicFolder, strict));
  });

  await typescript.installed;
  cpSync(join(root, 'test', 'consumers', 'every_type.ts'), join(typescript.folder, 'src', 'every_type.ts'));
  writeFileSync(join(typescript.folder, 'src', 'usage.ts'), usage);
  writeFileSync(join(typescript.folder, 'src', 'chat.ts'), chat);
  writeFileSync(join(typescript.folder, 'package.json'), '{ "private": true, "type": "module" }');
  await checkTypes(test, typescript.folder);

  await test('no bundler: by path, under the policy', async () => {
    await byPath.installed;
    await expectStory(await serveFolder(byPath.folder, publicFolder, strict));
  });

  await test('an import map under the policy is blocked (so the policy is in force)', async () => {
    const served = await serveFolder(plain.folder, publicFolder, strict);
    const blocked = await expectStory(served).then(
      () => 'nothing',
      (error) => String(error),
    );
    if (!/Content Security Policy/i.test(blocked)) throw new Error(`Expected a blocked inline script, got ${blocked}`);
  });

  await test('from a CDN', async () => {
    await cdn.installed;
    const served = await serveFolder(cdn.folder, publicFolder);
    await expectStory(served, (page) =>
      page.context().route(/^https:\/\/cdn\.jsdelivr\.net\//, (route) => {
        const name = /\/npm\/foretoken@[\d.]+\/dist\/(\w+\.js)$/.exec(route.request().url())?.[1];
        if (name === undefined) return route.abort();
        const body = readFileSync(join(cdn.folder, 'node_modules', 'foretoken', 'dist', name));
        const headers = { 'access-control-allow-origin': '*', 'content-type': 'text/javascript' };
        return route.fulfill({ body, headers });
      }),
    );
  });

  await test('next', async () => {
    await runCommand(next, 'npx next build');
    commandOf(next, 'npx next start');
    const program = join(next.folder, 'node_modules', 'next', 'dist', 'bin', 'next');
    await expectStory(await startServer(next.folder, [program, 'start', '--port', String(await freePort())]));
  });
} finally {
  await browser.close();
  if (values.keep) console.log(`kept: ${work}`);
  else rmSync(work, { recursive: true, force: true, maxRetries: 3 });
}
if (values.json !== undefined) writeFileSync(values.json, JSON.stringify(count));
console.log(`consumers: ${count.passed} passed, ${count.failed} failed`);
if (count.failed > 0) process.exitCode = 1;
