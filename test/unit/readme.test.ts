/** What README.md and docs/ say, against what is there. The code blocks are built and run by test/consumers. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';
import type { BenchReport } from '../../demo/bench.ts';
import { askedOf, type BaselineReport, baselinesMarkdown, rowsOf } from '../bench/baselines_report.ts';
import { commandsOf, readSections } from '../consumers/doc_projects.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const read = (path: string) => readFileSync(join(root, path), 'utf8');
const pages = ['README.md', 'CHANGELOG.md', ...readdirSync(join(root, 'docs')).map((name) => `docs/${name}`)];
const readme = readSections(read('README.md'));
const reportNames = readdirSync(join(root, 'test/bench/results')).filter((name) => name.endsWith('.json'));
const scripts = Object.keys(JSON.parse(read('package.json')).scripts);

/** The text of a section of README.md. */
function section(title: string): string {
  const text = new RegExp(`^## ${title}\n(.*?)(?=^## |(?![^]))`, 'ms').exec(read('README.md'))?.[1];
  if (text === undefined) throw new Error(`README.md has no section "${title}".`);
  return text;
}

/** The body of the first table in a Markdown text, as cells. */
function tableIn(text: string): string[][] {
  const rows = text.split('\n').filter((line) => line.startsWith('|'));
  return rows.slice(2).map((row) =>
    row
      .split('|')
      .slice(1, -1)
      .map((cell) => cell.trim()),
  );
}

describe('README.md', () => {
  it('has shell and TypeScript blocks, the latter run by test/consumers', () => {
    const blocks = [...readme.values()].flat();
    const fences = read('README.md').match(/^```/gm)?.length ?? 0;
    expect(blocks.length).toBe(fences / 2);
    expect(blocks.map(({ language }) => language)).toEqual(['sh', 'ts']);
    expect(readme.get('Use it')?.map(({ language }) => language)).toEqual(['ts']);
  });

  it('its commands are npm’s own or scripts of package.json', () => {
    const commands = commandsOf([...readme.values()].flat()).flatMap((line) => line.split(' && '));
    expect(commands.length).toBeGreaterThan(2);
    const known = ['npm install', 'npm test', ...scripts.map((name) => `npm run ${name}`)];
    expect(commands.filter((command) => !known.includes(command))).toEqual([]);
  });

  it('names every option', () => {
    const file = ts.createSourceFile('types.ts', read('src/types.ts'), ts.ScriptTarget.ES2022);
    const options = file.statements
      .filter(ts.isTypeAliasDeclaration)
      .filter(({ name }) => ['EngineOptions', 'GenerateOptions'].includes(name.text))
      .flatMap(({ type }) => (ts.isTypeLiteralNode(type) ? type.members : []))
      .map((member) => (member.name as ts.Identifier).text);
    expect(options.length).toBeGreaterThan(10);
    const said = section('Options');
    expect(options.filter((name) => !said.includes(`\`${name}\``))).toEqual([]);
  });

  it('its figures are those of the bench reports, and each report is among them', () => {
    const names = reportNames.filter((name) => !name.endsWith('-baselines.json'));
    const expected = names.map((name) => {
      const report: BenchReport = JSON.parse(read(`test/bench/results/${name}`));
      const { costs, rows, bestDraftLength } = report;
      const plain = rows.find((row) => row.draftLength === 0);
      const best = rows.find((row) => row.draftLength === bestDraftLength);
      return [
        `[${name.replace('.json', '')}](test/bench/results/${name.replace('.json', '.md')})`,
        plain?.tokensPerSecond.toFixed(1),
        `k = ${bestDraftLength}: ${best?.tokensPerSecond.toFixed(1)}`,
        `${best?.speedup.toFixed(2)}× ± ${(((plain?.spread ?? 0) + (best?.spread ?? 0)) * 100).toFixed(0)} %`,
        best?.alpha?.toFixed(2),
        costs?.c?.toFixed(2),
        [2, 4, 8].map((rows) => costs?.v[rows - 1]?.toFixed(2)).join(' / '),
        report.pays ? 'yes' : 'no',
      ];
    });
    expect(expected.length).toBeGreaterThan(0);
    expect(tableIn(section('Results so far'))).toEqual(expected);
    // Where a report comes from, the page works.
    const tested = tableIn(section('Browsers')).filter(([, state]) => state === 'tested');
    for (const name of names) {
      const { userAgent, adapter }: BenchReport = JSON.parse(read(`test/bench/results/${name}`));
      const version = /Chrome\/(\d+)/.exec(userAgent)?.[1];
      const words = [`chromium ${version}`, /Windows|Mac OS|Linux/.exec(userAgent)?.[0] ?? '', adapter.architecture];
      const row = tested.find(([what = '']) => words.every((word) => what.toLowerCase().includes(word.toLowerCase())));
      expect(row, `a row of tested browsers with ${words.join(', ')}`).toBeDefined();
    }
  });
});

describe('the programs beside it', () => {
  const names = reportNames.filter((name) => name.endsWith('-baselines.json'));

  it('README.md has the figures of one of them, and the way to each', () => {
    const said = section('Beside other programs');
    for (const name of names) expect(said).toContain(`](test/bench/results/${name.replace('.json', '.md')})`);
    const [, shown] = /\]\(test\/bench\/results\/(.*?)\.md\)/.exec(said) ?? [];
    const report: BaselineReport = JSON.parse(read(`test/bench/results/${shown}.json`));
    const rows = report.rows.map(({ name, tokensPerSecond, ours }) => [
      name,
      tokensPerSecond?.toFixed(1) ?? '–',
      ours === null ? '–' : `${ours.toPrecision(3)}×`,
    ]);
    expect(tableIn(said)).toEqual(rows);
    for (const { measured } of report.asked) expect(said).toContain(`${measured?.toPrecision(3)}×`);
  });

  it.each(names)('%s is of the figures that were kept, and says what was asked of them', (name) => {
    const report: BaselineReport = JSON.parse(read(`test/bench/results/${name}`));
    // The table that is kept is that of the figures that are kept.
    expect(baselinesMarkdown(report)).toBe(read(`test/bench/results/${name.replace('.json', '.md')}`));
    expect(report.asked).toEqual(
      askedOf(
        rowsOf(
          report.rows.map((row) => row.name),
          report.samples,
          problemsOf(report),
        ),
      ),
    );
  });
});

const problemsOf = ({ rows }: BaselineReport) =>
  Object.fromEntries(rows.flatMap(({ name, problem }) => (problem === null ? [] : [[name, problem]])));

describe('links and commands in the documents', () => {
  const anchorsOf = (markdown: string) =>
    [...markdown.matchAll(/^#+ (.+)$/gm)].map(([, title = '']) =>
      title
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
        .replaceAll(' ', '-'),
    );

  it.each(pages)('%s: links lead somewhere', (page) => {
    const links = [...read(page).matchAll(/\]\(([^)\s]+)\)/g)].map(([, link = '']) => link);
    const broken = links.filter((link) => {
      if (/^https:\/\//.test(link)) return false;
      const [path = '', anchor] = link.split('#');
      const target = path === '' ? page : join(dirname(page), path);
      if (!existsSync(join(root, target))) return true;
      return anchor !== undefined && !anchorsOf(read(target)).includes(anchor);
    });
    expect(broken).toEqual([]);
  });

  it.each(pages)('%s: scripts exist', (page) => {
    const named = [...read(page).matchAll(/`npm run ([\w:]+)/g)].map(([, name = '']) => name);
    expect(named.filter((name) => !scripts.includes(name))).toEqual([]);
  });
});
