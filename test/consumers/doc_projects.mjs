/** Reads projects out of docs/bundlers.md: a section is a project, a block is a file of it (or the commands that build it). */

/** @typedef {{ language: string, name: string | null, text: string }} Block */

/** Blocks by the title of their section; those before the first title under ''. */
export function readSections(/** @type {string} */ markdown) {
  /** @type {Map<string, Block[]>} */
  const sections = new Map([['', []]]);
  let title = '';
  const pattern = /^## (.+)$|^```(\w+)\r?\n([\s\S]*?)^```$/gm;
  for (const [, heading, language, text] of markdown.matchAll(pattern)) {
    if (heading !== undefined) {
      title = heading.trim();
      sections.set(title, []);
    } else if (language !== undefined && text !== undefined) {
      const name = /^(?:\/\/|<!--) ?([\w./-]+\.\w+)(?: -->)?\r?\n/.exec(text)?.[1] ?? null;
      sections.get(title)?.push({ language, name, text });
    }
  }
  return sections;
}

/** The files of a section by path. An HTML file may not start with a comment's worth of line, so that line is left out. */
export function filesOf(/** @type {Block[]} */ blocks) {
  const named = blocks.filter(({ name }) => name !== null);
  return Object.fromEntries(
    named.map(({ name, text }) => [/** @type {string} */ (name), text.replace(/^<!--.*\n/, '')]),
  );
}

/** The lines of a section's `sh` blocks. */
export function commandsOf(/** @type {Block[]} */ blocks) {
  const lines = blocks.filter(({ language }) => language === 'sh').flatMap(({ text }) => text.split(/\r?\n/));
  return lines.map((line) => line.trim()).filter((line) => line !== '');
}
