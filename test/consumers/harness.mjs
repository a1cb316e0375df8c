/** What the consumer tests share: a count, projects made from the document, a page that is read to its end. */
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { commandsOf, filesOf, readSections } from './doc_projects.mjs';
import { npm } from './process.mjs';

/** @typedef {{ url: string, close: () => Promise<unknown> }} Served */
/** @typedef {{ section: string, folder: string, commands: string[], installed: Promise<unknown> }} Project */

export const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
export const publicFolder = join(root, 'demo', 'public');
export const sections = readSections(readFileSync(join(root, 'docs', 'bundlers.md'), 'utf8'));
/** The block under "Use it" in README.md. */
export const usage = readSections(readFileSync(join(root, 'README.md'), 'utf8')).get('Use it')?.[0]?.text ?? '';
const chatSections = readSections(readFileSync(join(root, 'docs', 'chat.md'), 'utf8'));
/** All blocks of docs/chat.md, which continue each other. The unit tests run them. */
export const chat = [...chatSections.values()].flatMap((blocks) => blocks.map(({ text }) => text)).join('\n');
/** Pinned, so that a release of somebody else's does not break a test of ours overnight. @type {Record<string, string>} */
const versions = JSON.parse(readFileSync(join(root, 'test', 'consumers', 'versions.json'), 'utf8'));

/** Runs tests one after another and counts; a failure does not stop the others. */
export function createTester(/** @type {string | undefined} */ only) {
  const count = { passed: 0, failed: 0 };
  async function test(/** @type {string} */ name, /** @type {() => unknown} */ run) {
    if (only !== undefined && !name.includes(only)) return;
    const start = Date.now();
    let fault = '';
    try {
      await run();
      count.passed += 1;
    } catch (error) {
      count.failed += 1;
      fault = `\n${error instanceof Error ? error.message : error}`;
    }
    console.log(`  ${fault ? 'FAIL' : 'ok  '} ${name} (${((Date.now() - start) / 1000).toFixed(1)} s)${fault}`);
  }
  return { count, test };
}

/** Installs run in turn, beside the tests of the projects that are ready. @type {Promise<unknown>} */
let lastInstall = Promise.resolve();

/** Writes a section's project, models included, and installs what its `npm install` line names. @returns {Project} */
export function makeProject(/** @type {string} */ work, /** @type {string} */ section, /** @type {string} */ tarball) {
  const blocks = sections.get(section);
  if (blocks === undefined) throw new Error(`Expected a section "${section}" in docs/bundlers.md.`);
  const folder = join(work, section.toLowerCase().replaceAll(/\W+/g, '-'));
  const files = {
    ...filesOf(sections.get('The page') ?? []),
    ...filesOf(blocks),
    'package.json': '{ "private": true }',
  };
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), text);
  }
  cpSync(join(publicFolder, 'models'), join(folder, 'public', 'models'), { recursive: true });

  const commands = commandsOf(blocks);
  const names = commands
    .find((command) => command.startsWith('npm install '))
    ?.split(/\s+/)
    .slice(2) ?? ['foretoken'];
  const unpinned = names.find((name) => name !== 'foretoken' && versions[name] === undefined);
  if (unpinned !== undefined) throw new Error(`Expected a version of ${unpinned} in test/consumers/versions.json.`);
  const packages = names.map((name) =>
    name === 'foretoken' ? tarball : `${name.replace(/(?<=.)@.*/, '')}@${versions[name]}`,
  );
  const flags = ['--prefer-offline', '--no-audit', '--no-fund', '--loglevel=error'];
  const installed = lastInstall.then(() => npm(folder, ['install', ...flags, ...packages]));
  lastInstall = installed.catch(() => {});
  return { section, folder, commands, installed };
}

/** Runs the section's `npx …` line, which must be there, as npm would run it for a person. */
export async function runCommand(/** @type {Project} */ project, /** @type {string} */ start) {
  await project.installed;
  const command = commandOf(project, start);
  return npm(project.folder, ['exec', '--offline', '--', ...command.split(/\s+/).slice(1)]);
}

/** The section's line that is, or begins with, these words. */
export function commandOf(/** @type {Project} */ { section, commands }, /** @type {string} */ start) {
  const command = commands.find((line) => line === start || line.startsWith(`${start} `));
  if (command === undefined) throw new Error(`Expected "${start}" among the commands of "${section}".`);
  return command;
}

/** @returns {Promise<number>} */
export function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer().on('error', reject);
    server.listen(0, 'localhost', () => {
      const address = server.address();
      server.close(() => resolve(address !== null && typeof address === 'object' ? address.port : 0));
    });
  });
}

/** Reads pages to the end of their story. Greedy text is one text, so every story must be that of the first page. */
export function createReader(/** @type {import('@playwright/test').Browser} */ browser) {
  /** @type {string | null} */
  let firstStory = null;
  return async (
    /** @type {Served} */ served,
    /** @type {(page: import('@playwright/test').Page) => Promise<unknown>} */ prepare = async () => {},
  ) => {
    const page = await browser.newPage();
    /** @type {string[]} */
    const errors = [];
    page.on('console', (message) => {
      // Nobody drew an icon for these pages.
      if (message.type() === 'error' && !message.location().url.endsWith('/favicon.ico')) errors.push(message.text());
    });
    const broken = new Promise((resolve) => {
      page.on('pageerror', (error) => {
        errors.push(error.message);
        resolve(null);
      });
    });
    try {
      await prepare(page);
      /** @type {string | null} */
      let rate = null;
      // These pages leave k to the engine. Timed on a machine that is busy, drafts may look dear: it is asked again.
      for (let visit = 0; visit < 3 && (visit === 0 || rate === '0 of 0 drafts accepted'); visit++) {
        await page.goto(served.url);
        const settled = page.locator('#rate', { hasText: /./ }).textContent({ timeout: 90_000 });
        rate = /** @type {string | null} */ (await Promise.race([settled.catch(() => null), broken]));
      }
      const story =
        (await page
          .locator('#story')
          .textContent({ timeout: 1000 })
          .catch(() => null)) ?? '';
      const [accepted = 0, drafted = 0] = (/^(\d+) of (\d+) drafts accepted$/.exec(rate ?? '') ?? [])
        .slice(1)
        .map(Number);
      // A draft that is never right would still tell the right story.
      if (errors.length > 0 || story.trim().length < 40 || accepted < 1 || accepted > drafted) {
        const got = `"${story}", "${rate ?? ''}"`;
        throw new Error(`Expected a story with accepted drafts, got ${got}; errors: ${errors.join(' | ') || 'none'}.`);
      }
      firstStory ??= story;
      if (story !== firstStory)
        throw new Error(`Expected the story of the first page, "${firstStory}", got "${story}".`);
      return story;
    } finally {
      await page.close();
      await served.close();
    }
  };
}
