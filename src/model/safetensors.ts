import { ModelFormatError } from '../errors.ts';
import type { FileStream } from './body.ts';
import { createByteReader } from './byte_reader.ts';
import type { TensorDtype } from './gguf_blocks.ts';
import { readRows, type TensorRows } from './tensor_rows.ts';

/** A tensor as the file names it: data types that nobody needs (integer buffers) are listed, not refused. */
export type StoredTensor = {
  dtype: string;
  shape: readonly number[];
  /** Bytes from the start of the file. */
  begin: number;
  end: number;
};

/** The limit of the reference implementation. */
const MAX_HEADER_BYTES = 100_000_000;

const BITS_PER_ELEMENT: ReadonlyMap<string, number> = new Map([
  ['F64', 64],
  ['F32', 32],
  ['F16', 16],
  ['BF16', 16],
  ['I64', 64],
  ['I32', 32],
  ['I16', 16],
  ['I8', 8],
  ['U64', 64],
  ['U32', 32],
  ['U16', 16],
  ['U8', 8],
  ['BOOL', 8],
  ['F8_E4M3', 8],
  ['F8_E5M2', 8],
]);

type Entry = { name: string; dtype: string; shape: number[]; begin: number; end: number };

type Fail = (fault: string) => never;

const failureOf =
  (name: string): Fail =>
  (fault) => {
    throw new ModelFormatError(`${name} is not a valid safetensors file: ${fault}. Download or convert it again.`);
  };

/**
 * Reads a safetensors file: 8 bytes header length, JSON header, tensor data. The header is untrusted: whatever it claims
 * is checked against the size of the file, before its data are read where that size is certain.
 * @param name of the file, for errors
 * @param choose the tensors that are wanted; throws where they are not those of the model
 */
export async function* readSafetensors(
  stream: FileStream,
  name: string,
  choose: (stored: ReadonlyMap<string, StoredTensor>) => ReadonlyMap<string, StoredTensor & { dtype: TensorDtype }>,
): AsyncGenerator<TensorRows, void, void> {
  const reader = createByteReader(stream);
  try {
    const fileBytes = stream.isFirm ? stream.length : null;
    const start = await reader.take(8);
    const headerBytes = safetensorsHeaderBytes(start, start.length < 8 ? start.length : fileBytes, name);
    const header = await reader.take(headerBytes);
    const dataBegin = 8 + headerBytes;
    // A header that is cut off is told by its length.
    if (header.length < headerBytes) safetensorsHeaderBytes(start, 8 + header.length, name);
    const stored = parseSafetensorsHeader(header, dataBegin, fileBytes, name);
    const wanted = [...choose(stored)].map(([tensor, place]) => ({ ...place, name: tensor }));
    yield* readRows(reader, wanted, () => checkDataEnd(stored, dataBegin, reader.position(), name) as never);
    await reader.skip(Number.POSITIVE_INFINITY);
    checkDataEnd(stored, dataBegin, reader.position(), name);
  } finally {
    await reader.close();
  }
}

/** @param start the first 8 bytes @param fileBytes null where it is not certain */
export function safetensorsHeaderBytes(start: Uint8Array, fileBytes: number | null, name: string): number {
  const fail = failureOf(name);
  if (start.length < 8) fail(`expected at least 8 bytes, got ${start.length}`);
  const headerBytes = new DataView(start.buffer, start.byteOffset, start.byteLength).getBigUint64(0, true);
  if (fileBytes !== null && headerBytes > BigInt(fileBytes - 8)) {
    fail(`its header length is ${headerBytes}, which is beyond the end of the file (${fileBytes} bytes)`);
  }
  if (headerBytes > BigInt(MAX_HEADER_BYTES))
    fail(`its header length is ${headerBytes}, expected at most ${MAX_HEADER_BYTES}`);
  return Number(headerBytes);
}

/** The tensors in file order. @param dataBegin where the header ends @param fileBytes null where it is not certain */
export function parseSafetensorsHeader(
  header: Uint8Array,
  dataBegin: number,
  fileBytes: number | null,
  name: string,
): ReadonlyMap<string, StoredTensor> {
  const fail = failureOf(name);
  const entries = parseHeader(header, fail);
  // In file order the tensors must fill the data section exactly: no overlap, no hole, no rest.
  entries.sort((a, b) => a.begin - b.begin || a.end - b.end);
  const stored = new Map<string, StoredTensor>();
  for (const { name: tensor, dtype, shape, begin, end } of entries) {
    stored.set(tensor, { dtype, shape, begin: dataBegin + begin, end: dataBegin + end });
  }
  if (fileBytes !== null) checkDataEnd(stored, dataBegin, fileBytes, name, false);
  let position = 0;
  let previous = '';
  for (const { name: tensor, begin, end } of entries) {
    if (begin < position) fail(`tensor ${quote(tensor)} overlaps ${quote(previous)}`);
    if (begin > position) fail(`there is a hole of ${begin - position} bytes before tensor ${quote(tensor)}`);
    position = end;
    previous = tensor;
  }
  if (fileBytes !== null) checkDataEnd(stored, dataBegin, fileBytes, name);
  return stored;
}

/** Holds the end of the file against that of its tensors. */
function checkDataEnd(
  stored: ReadonlyMap<string, StoredTensor>,
  dataBegin: number,
  fileBytes: number,
  name: string,
  refuseRest = true,
): void {
  const fail = failureOf(name);
  let dataEnd = dataBegin;
  for (const [tensor, { end }] of stored) {
    if (end > fileBytes) {
      fail(
        `tensor ${quote(tensor)} ends at byte ${end - dataBegin} of the data section, which has ${fileBytes - dataBegin} ` +
          'bytes: the file is truncated',
      );
    }
    dataEnd = Math.max(dataEnd, end);
  }
  if (refuseRest && dataEnd < fileBytes) fail(`${fileBytes - dataEnd} bytes after the last tensor belong to none`);
}

function parseHeader(bytes: Uint8Array, fail: Fail): Entry[] {
  let text = '';
  let header: unknown;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    header = JSON.parse(text);
  } catch {
    fail('its header is not JSON');
  }
  if (!isRecord(header)) return fail('its header is not a JSON object');
  // JSON.parse keeps the last of two equal keys without a word, and other readers may keep the first.
  const duplicate = findDuplicateKey(text);
  if (duplicate !== null) fail(`the key ${quote(duplicate)} occurs twice in its header`);

  const entries: Entry[] = [];
  for (const [tensor, info] of Object.entries(header)) {
    if (tensor === '__metadata__') {
      if (!isRecord(info) || Object.values(info).some((value) => typeof value !== 'string')) {
        fail('__metadata__ is not an object of strings');
      }
      continue;
    }
    entries.push(parseEntry(tensor, info, fail));
  }
  return entries;
}

function parseEntry(tensor: string, info: unknown, fail: Fail): Entry {
  if (!isRecord(info)) return fail(`tensor ${quote(tensor)} is not described by an object`);
  const { dtype, shape, data_offsets: offsets } = info;
  if (typeof dtype !== 'string') return fail(`tensor ${quote(tensor)} has no dtype`);
  if (!Array.isArray(shape) || !shape.every(isSize)) {
    return fail(`tensor ${quote(tensor)} has the shape ${preview(shape)}, expected a list of whole numbers from 0 up`);
  }
  if (!isRange(offsets)) {
    return fail(`tensor ${quote(tensor)} has the data_offsets ${preview(offsets)}, expected [begin, end]`);
  }
  const [begin, end] = offsets;
  let elements = shape.includes(0) ? 0 : 1;
  for (const size of shape as number[]) elements *= size;
  const bits = BITS_PER_ELEMENT.get(dtype);
  // Unknown types come with future versions of the format; whoever needs such a tensor will be told.
  if (bits !== undefined) {
    if (!Number.isSafeInteger(elements * bits))
      fail(`the shape ${preview(shape)} of tensor ${quote(tensor)} overflows`);
    if (end - begin !== (elements * bits) / 8) {
      fail(
        `tensor ${quote(tensor)} takes ${end - begin} bytes, expected ${(elements * bits) / 8} for ${dtype} ${preview(shape)}`,
      );
    }
  }
  return { name: tensor, dtype, shape, begin, end };
}

/** The first key that an object in this (valid) JSON text has twice, or null. Brackets and strings are all that matters. */
function findDuplicateKey(text: string): string | null {
  // One set of keys per open object; null for an open array.
  const open: (Set<string> | null)[] = [];
  let keys: Set<string> | null = null;
  let expectKey = false;
  for (let i = 0; i < text.length; i++) {
    const char = text[i];
    if (char === '{' || char === '[') {
      keys = char === '{' ? new Set() : null;
      open.push(keys);
      expectKey = keys !== null;
    } else if (char === '}' || char === ']') {
      open.pop();
      keys = open.at(-1) ?? null;
      expectKey = false;
    } else if (char === ',') {
      expectKey = keys !== null;
    } else if (char === '"') {
      const start = i++;
      while (text[i] !== '"') i += text[i] === '\\' ? 2 : 1;
      if (!expectKey || !keys) continue;
      const key = JSON.parse(text.slice(start, i + 1)) as string;
      if (keys.has(key)) return key;
      keys.add(key);
      expectKey = false;
    }
  }
  return null;
}

const isSize = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
const isRange = (value: unknown): value is [number, number] =>
  Array.isArray(value) && value.length === 2 && value.every(isSize) && value[0]! <= value[1]!;
const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
/** Names come from the file: kept on one line, and short. */
const quote = (name: string) => JSON.stringify(name.length > 120 ? `${name.slice(0, 120)}…` : name);
const preview = (value: unknown) => {
  const text = JSON.stringify(value) ?? 'missing';
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
};
