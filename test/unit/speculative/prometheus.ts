/**
 * A strict reader of the Prometheus text exposition format 0.0.4. Stricter than a scraper where that finds bugs: HELP
 * and TYPE are required, in this order, before a family's samples; no blank lines, no series twice.
 */
export type Family = {
  help: string;
  type: string;
  samples: { labels: Map<string, string>; value: number }[];
};

const METRIC_NAME = /^[a-zA-Z_:][a-zA-Z0-9_:]*$/;
const LABEL_NAME = /^[a-zA-Z_][a-zA-Z0-9_]*/;
const VALUE = /^[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?$/i;

function parseLabels(text: string, line: string): Map<string, string> {
  const labels = new Map<string, string>();
  let rest = text;
  while (rest !== '') {
    const name = LABEL_NAME.exec(rest)?.[0];
    if (name === undefined || rest[name.length] !== '=' || rest[name.length + 1] !== '"') {
      throw new Error(`label expected at ${rest}: ${line}`);
    }
    if (labels.has(name)) throw new Error(`label ${name} twice: ${line}`);
    let value = '';
    let i = name.length + 2;
    for (; rest[i] !== '"'; i += 1) {
      if (i >= rest.length) throw new Error(`unterminated label ${name}: ${line}`);
      if (rest[i] !== '\\') {
        value += rest[i];
        continue;
      }
      i += 1;
      const escaped = { '\\': '\\', '"': '"', n: '\n' }[rest[i] ?? ''];
      if (escaped === undefined) throw new Error(`unknown escape \\${rest[i]}: ${line}`);
      value += escaped;
    }
    labels.set(name, value);
    rest = rest.slice(i + 1);
    if (rest === '') break;
    if (rest[0] !== ',') throw new Error(`comma expected at ${rest}: ${line}`);
    rest = rest.slice(1);
  }
  return labels;
}

export function parsePrometheus(text: string): Map<string, Family> {
  if (!text.endsWith('\n')) throw new Error('the last line must end in a newline');
  const families = new Map<string, Family>();
  const seen = new Set<string>();
  let current = '';
  for (const line of text.slice(0, -1).split('\n')) {
    const comment = /^# (HELP|TYPE) (\S+) (.+)$/.exec(line);
    if (comment !== null) {
      const [, kind, name, rest] = comment as unknown as [string, string, string, string];
      if (!METRIC_NAME.test(name)) throw new Error(`bad metric name: ${line}`);
      if (kind === 'HELP') {
        if (families.has(name)) throw new Error(`HELP twice: ${line}`);
        families.set(name, { help: rest, type: '', samples: [] });
        current = name;
        continue;
      }
      const family = families.get(name);
      if (family === undefined || name !== current) throw new Error(`TYPE without HELP: ${line}`);
      if (family.type !== '') throw new Error(`TYPE twice: ${line}`);
      if (rest !== 'counter' && rest !== 'gauge') throw new Error(`unknown type: ${line}`);
      if (rest === 'counter' && !name.endsWith('_total')) throw new Error(`a counter must end in _total: ${line}`);
      family.type = rest;
      continue;
    }
    const sample = /^([^{\s]+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (sample === null) throw new Error(`neither comment nor sample: ${line}`);
    const [, name, labelText, valueText] = sample as unknown as [string, string, string | undefined, string];
    const family = families.get(name);
    if (family === undefined || family.type === '' || name !== current) throw new Error(`sample astray: ${line}`);
    if (!VALUE.test(valueText)) throw new Error(`bad value: ${line}`);
    const labels = parseLabels(labelText ?? '', line);
    const series = `${name}${JSON.stringify([...labels].sort())}`;
    if (seen.has(series)) throw new Error(`series twice: ${line}`);
    seen.add(series);
    family.samples.push({ labels, value: Number(valueText) });
  }
  for (const [name, { type }] of families) if (type === '') throw new Error(`no TYPE for ${name}`);
  return families;
}
