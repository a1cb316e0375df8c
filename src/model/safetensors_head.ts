/** What a safetensors file holds, from its first bytes alone. */
import type { OpenOptions } from './body.ts';
import { parseSafetensorsHeader, type StoredTensor, safetensorsHeaderBytes } from './safetensors.ts';
import { type ModelSource, readFile } from './source.ts';

/** The size is where the last tensor ends: nothing may follow it. Null only for a missing optional file. */
export async function readSafetensorsHead(
  source: ModelSource,
  file: string,
  options: Pick<OpenOptions, 'signal' | 'optional'>,
): Promise<{ stored: ReadonlyMap<string, StoredTensor>; sizeBytes: number } | null> {
  const name = source.url + file;
  const start = await readFile(source, file, { ...options, range: { begin: 0, end: 8 } });
  if (start === null) return null;
  const dataBegin = 8 + safetensorsHeaderBytes(start, start.length < 8 ? start.length : null, name);
  const header = (await readFile(source, file, { ...options, range: { begin: 8, end: dataBegin } })) as Uint8Array;
  if (8 + header.length < dataBegin) safetensorsHeaderBytes(start, 8 + header.length, name);
  const stored = parseSafetensorsHeader(header, dataBegin, null, name);
  return { stored, sizeBytes: Math.max(dataBegin, ...[...stored.values()].map(({ end }) => end)) };
}
