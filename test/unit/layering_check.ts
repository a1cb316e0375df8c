/** The layer rules of the sources, as a function from files to violations: `layering.test.ts` runs it on the tree and on planted faults. */
import { posix } from 'node:path';
import ts from 'typescript';

/** Imports go down only. Files of one rank may import each other, as long as no circle forms. */
const ranks: readonly (readonly [RegExp, number])[] = [
  [/^src\/(errors|\w*types|options|option_\w+|\w+_options)\.ts$/, 0],
  [/^src\/gpu\//, 1],
  [/^src\/kernels\//, 2],
  [/^src\/model\//, 3],
  [/^src\/(speculative\/|(run|chat|events|model_cache)\.ts$)/, 4],
  [/^src\/(engine\w*|check_model)\.ts$/, 5],
  [/^src\/(worker\w*|client)\.ts$/, 6],
  [/^src\/index\.ts$/, 7],
  [/^demo\//, 8],
];

const maxLines = 400;
const deviceCreations =
  /^(create(Buffer|Texture|Sampler|BindGroup|BindGroupLayout|PipelineLayout|ShaderModule|(Compute|Render)Pipeline(Async)?|CommandEncoder|RenderBundleEncoder|QuerySet)|importExternalTexture|requestDevice)$/;

/** Who may import a package, or a kind of file. Whatever has no line here, the sources may not import. */
const importDoors: readonly { what: RegExp; where: RegExp; doorName: string }[] = [
  { what: /\.wgsl(\?raw)?$/, where: /^src\/kernels\//, doorName: 'src/kernels/' },
  { what: /^@huggingface\/tokenizers$/, where: /^src\/model\/tokenizer\.ts$/, doorName: 'src/model/tokenizer.ts' },
  { what: /^@huggingface\/jinja$/, where: /^src\/model\/chat_template\.ts$/, doorName: 'src/model/chat_template.ts' },
  {
    what: /^comlink$/,
    where: /^src\/(worker|worker_api|client)\.ts$/,
    doorName: 'worker.ts, worker_api.ts and client.ts',
  },
  { what: /^(foretoken|foretoken\/\w+)$/, where: /^demo\//, doorName: 'demo/' },
  { what: /^uplot(\/.*)?$/, where: /^demo\//, doorName: 'demo/' },
  { what: /^\.{1,2}\//, where: /./, doorName: 'anywhere' },
];

/** Who may name a member of an object, whatever the object. */
const memberDoors: readonly { what: RegExp; where: RegExp; doorName: string }[] = [
  { what: deviceCreations, where: /^src\/gpu\//, doorName: 'src/gpu/' },
  { what: /^mapAsync$/, where: /^src\/gpu\/readback\.ts$/, doorName: 'src/gpu/readback.ts' },
];

function rankOf(path: string): number | null {
  return ranks.find(([pattern]) => pattern.test(path))?.[1] ?? null;
}

/** Names that a file gives to variables and parameters of its own. */
function localNames(file: ts.SourceFile): Set<string> {
  const names = new Set<string>();
  const visit = (node: ts.Node): void => {
    if (
      (ts.isVariableDeclaration(node) || ts.isParameter(node) || ts.isBindingElement(node)) &&
      ts.isIdentifier(node.name)
    ) {
      names.add(node.name.text);
    }
    ts.forEachChild(node, visit);
  };
  visit(file);
  return names;
}

type Facts = { imports: string[]; members: string[]; domUses: string[] };

/** True where an identifier stands for the global of that name: not a member, a key, a local variable or a type. */
function isGlobalUse(node: ts.Identifier, locals: ReadonlySet<string>): boolean {
  const { parent } = node;
  if (ts.isPropertyAccessExpression(parent) && parent.name === node) {
    return ts.isIdentifier(parent.expression) && ['globalThis', 'self'].includes(parent.expression.text);
  }
  if (locals.has(node.text)) return false;
  if (ts.isPropertyAssignment(parent) && parent.name === node) return false;
  return !ts.isDeclarationStatement(parent) && !ts.isTypeElement(parent) && !ts.isTypeNode(parent);
}

/** The address of the document may be read anywhere (relative URLs mean the page's); its elements may not. */
function readsAddressOnly(node: ts.Identifier): boolean {
  const access = ts.isPropertyAccessExpression(node.parent) && node.parent.name === node ? node.parent : node;
  return ts.isPropertyAccessExpression(access.parent) && access.parent.name.text === 'baseURI';
}

function readFacts(path: string, text: string): Facts {
  const facts: Facts = { imports: [], members: [], domUses: [] };
  const file = ts.createSourceFile(path, text, ts.ScriptTarget.ES2022, true);
  const locals = localNames(file);
  const visit = (node: ts.Node): void => {
    if ((ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) && node.moduleSpecifier) {
      facts.imports.push((node.moduleSpecifier as ts.StringLiteral).text);
    } else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument)) {
      facts.imports.push((node.argument.literal as ts.StringLiteral).text);
    } else if (ts.isCallExpression(node) && node.expression.kind === ts.SyntaxKind.ImportKeyword) {
      const [specifier] = node.arguments;
      facts.imports.push(specifier && ts.isStringLiteralLike(specifier) ? specifier.text : '(computed)');
    } else if (ts.isPropertyAccessExpression(node)) {
      facts.members.push(node.name.text);
    } else if (ts.isElementAccessExpression(node) && ts.isStringLiteralLike(node.argumentExpression)) {
      facts.members.push(node.argumentExpression.text);
    } else if (ts.isBindingElement(node)) {
      facts.members.push((node.propertyName ?? node.name).getText());
    }
    if (
      ts.isIdentifier(node) &&
      /^(document|window)$/.test(node.text) &&
      isGlobalUse(node, locals) &&
      !readsAddressOnly(node)
    ) {
      facts.domUses.push(node.text);
    }
    ts.forEachChild(node, visit);
  };
  visit(file);
  return facts;
}

/** One circle of imports per file it goes through, as `a → b → a`. */
function findCircles(imported: ReadonlyMap<string, readonly string[]>): string[] {
  const circles = new Map<string, string>();
  const finished = new Set<string>();
  const walk = (path: string, trail: readonly string[]): void => {
    const start = trail.indexOf(path);
    if (start >= 0) {
      const circle = trail.slice(start);
      circles.set([...circle].sort().join(), [...circle, path].join(' → '));
      return;
    }
    if (finished.has(path)) return;
    for (const next of imported.get(path) ?? []) walk(next, [...trail, path]);
    finished.add(path);
  };
  for (const path of imported.keys()) walk(path, []);
  return [...circles.values()];
}

/** @param files texts by path from the repository root, with `/` */
export function findViolations(files: Readonly<Record<string, string>>): string[] {
  const violations: string[] = [];
  const imported = new Map<string, string[]>();
  for (const [path, text] of Object.entries(files)) {
    const lineCount = text.replace(/\n$/, '').split('\n').length;
    if (lineCount > maxLines) violations.push(`${path}: ${lineCount} lines, of at most ${maxLines}`);
    if (!path.endsWith('.ts')) continue;

    const rank = rankOf(path);
    if (rank === null) {
      violations.push(`${path}: has no rank; add it to \`ranks\` in layering_check.ts`);
      continue;
    }
    const facts = readFacts(path, text);
    const targets: string[] = [];
    for (const specifier of facts.imports) {
      const door = importDoors.find(({ what }) => what.test(specifier));
      if (door === undefined) violations.push(`${path}: imports ${specifier}, which no file may`);
      else if (!door.where.test(path))
        violations.push(`${path}: imports ${specifier}, which only ${door.doorName} may`);
      if (!/^\.{1,2}\//.test(specifier) || !specifier.endsWith('.ts')) continue;
      const target = posix.join(posix.dirname(path), specifier);
      targets.push(target);
      const targetRank = rankOf(target);
      if (path.startsWith('demo/') !== target.startsWith('demo/')) {
        violations.push(`${path}: imports ${target}; the demo uses the package by its name`);
      } else if (targetRank === null || targetRank > rank) {
        violations.push(`${path} (rank ${rank}): imports ${target} (rank ${targetRank}), upwards`);
      }
    }
    imported.set(path, targets);
    for (const { what, where, doorName } of memberDoors) {
      const member = facts.members.find((name) => what.test(name));
      if (member !== undefined && path.startsWith('src/') && !where.test(path)) {
        violations.push(`${path}: names .${member}, which only ${doorName} may`);
      }
    }
    if (!path.startsWith('demo/') && facts.domUses.length > 0) {
      violations.push(`${path}: names \`${facts.domUses[0]}\`, which only demo/ may`);
    }
  }
  return [...violations, ...findCircles(imported).map((circle) => `imports in a circle: ${circle}`)];
}
