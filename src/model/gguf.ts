/**
 * The head of a GGUF file (v2 and v3, little-endian): metadata, and where each tensor lies. Format:
 * https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. All of it is untrusted: whatever it claims is checked against
 * the bytes that are there before anything is allocated.
 */
import { ModelFormatError, UnsupportedModelError } from '../errors.ts';
import { blockFormats, type WeightDtype } from './gguf_blocks.ts';

export type GgufArray = string[] | GgufArray[] | NumberArray;
export type GgufValue = number | bigint | boolean | string | GgufArray;
export type GgufMetadata = ReadonlyMap<string, GgufValue>;

export type GgufTensor = {
  dtype: WeightDtype;
  /** Row-major, as in safetensors: (outputs, inputs). The file has it the other way round. */
  shape: readonly number[];
  /** Bytes from the start of the file. */
  begin: number;
  end: number;
};

export type GgufHead = {
  metadata: GgufMetadata;
  tensors: ReadonlyMap<string, GgufTensor>;
  /** The tensors' bytes, from the first to the last. */
  dataBegin: number;
  dataEnd: number;
};

type NumberArray =
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Uint32Array
  | Int32Array
  | Float32Array
  | BigUint64Array
  | BigInt64Array
  | Float64Array;

/** No head is longer: the largest known vocabularies take 20 MB. */
export const MAX_HEAD_BYTES = 2 ** 28;
const MAX_ARRAY_DEPTH = 4;
const MAX_DIMENSIONS = 4;
const MAX_ALIGNMENT = 2 ** 20;

/** Types of metadata values, by their number in the file. */
const STRING = 8;
const ARRAY = 9;
const arrayOf = new Map<number, { size: number; make: (bytes: Uint8Array<ArrayBuffer>) => NumberArray }>([
  [0, { size: 1, make: (bytes) => bytes }],
  [1, { size: 1, make: ({ buffer }) => new Int8Array(buffer) }],
  [2, { size: 2, make: ({ buffer }) => new Uint16Array(buffer) }],
  [3, { size: 2, make: ({ buffer }) => new Int16Array(buffer) }],
  [4, { size: 4, make: ({ buffer }) => new Uint32Array(buffer) }],
  [5, { size: 4, make: ({ buffer }) => new Int32Array(buffer) }],
  [6, { size: 4, make: ({ buffer }) => new Float32Array(buffer) }],
  [7, { size: 1, make: (bytes) => bytes }],
  [10, { size: 8, make: ({ buffer }) => new BigUint64Array(buffer) }],
  [11, { size: 8, make: ({ buffer }) => new BigInt64Array(buffer) }],
  [12, { size: 8, make: ({ buffer }) => new Float64Array(buffer) }],
]);
const BOOLEAN = 7;

/** Types of tensors, by their number in the file. Those without a format here are named in the error. */
const tensorTypes = new Map(
  Object.entries({
    ...{ 0: 'F32', 1: 'F16', 2: 'Q4_0', 3: 'Q4_1', 6: 'Q5_0', 7: 'Q5_1', 8: 'Q8_0', 9: 'Q8_1', 10: 'Q2_K', 11: 'Q3_K' },
    ...{ 12: 'Q4_K', 13: 'Q5_K', 14: 'Q6_K', 15: 'Q8_K', 16: 'IQ2_XXS', 17: 'IQ2_XS', 18: 'IQ3_XXS', 19: 'IQ1_S' },
    ...{ 20: 'IQ4_NL', 21: 'IQ3_S', 22: 'IQ2_S', 23: 'IQ4_XS', 24: 'I8', 25: 'I16', 26: 'I32', 27: 'I64', 28: 'F64' },
    ...{ 29: 'IQ1_M', 30: 'BF16', 34: 'TQ1_0', 35: 'TQ2_0', 39: 'MXFP4' },
  }).map(([number, name]) => [Number(number), name]),
);

/** Values and bytes of a block of each type that can be read. */
const formats: Readonly<Record<WeightDtype, { values: number; bytes: number }>> = {
  F32: { values: 1, bytes: 4 },
  F16: { values: 1, bytes: 2 },
  BF16: { values: 1, bytes: 2 },
  ...blockFormats,
};

/** Thrown where the bytes end before the head does, and more may follow. */
const moreNeeded = Symbol('more bytes needed');

/**
 * @param start the first bytes of the file; all of them if `isWhole`
 * @param name of the file, for errors
 * @returns null where the head is longer than `start`
 */
export function parseGgufHead(start: Uint8Array, isWhole: boolean, name: string): GgufHead | null {
  try {
    return readHead(start, isWhole, name);
  } catch (error) {
    if (error === moreNeeded) return null;
    throw error;
  }
}

type Fail = (fault: string) => never;

function readHead(start: Uint8Array, isWhole: boolean, name: string): GgufHead {
  const fail: Fail = (fault) => {
    throw new ModelFormatError(`${name} is not a valid GGUF file: ${fault}. Download or convert it again.`);
  };
  const reader = createReader(start, isWhole, fail);
  const magic = reader.u32();
  if (magic !== 0x46554747) fail(`it begins with 0x${magic.toString(16).padStart(8, '0')}, expected "GGUF"`);
  const version = reader.u32();
  if (version !== 2 && version !== 3) {
    const what = version % 2 ** 16 === 0 && version > 0 ? 'it is big-endian' : `it is of version ${version}`;
    throw new UnsupportedModelError(
      `${name}: ${what}, which is not supported, only little-endian GGUF of version 2 and 3. Convert the model again.`,
    );
  }
  const tensorCount = reader.count('number of tensors');
  const metadataCount = reader.count('number of metadata entries');

  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < metadataCount; i++) {
    const key = reader.text();
    if (metadata.has(key)) fail(`the metadata key ${quote(key)} occurs twice`);
    metadata.set(key, reader.value(reader.u32(), `metadata ${quote(key)}`, 0));
  }
  const alignment = metadata.get('general.alignment') ?? 32;
  if (typeof alignment !== 'number' || !(alignment >= 1 && alignment <= MAX_ALIGNMENT) || !isPowerOfTwo(alignment)) {
    return fail(
      `general.alignment is ${String(alignment).slice(0, 40)}, expected a power of two up to ${MAX_ALIGNMENT}`,
    );
  }
  const tensors = new Map<string, GgufTensor>();
  for (let i = 0; i < tensorCount; i++) {
    const tensor = reader.text();
    if (tensors.has(tensor)) fail(`tensor ${quote(tensor)} is listed twice`);
    tensors.set(tensor, readTensor(reader, tensor, name, fail));
  }
  const dataBegin = Math.ceil(reader.position() / alignment) * alignment;
  return placeTensors(metadata, tensors, dataBegin, alignment, isWhole ? start.length : null, fail);
}

type Reader = ReturnType<typeof createReader>;

function createReader(bytes: Uint8Array, isWhole: boolean, fail: Fail) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  // A token may begin with U+FEFF, which decoders drop by default.
  const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  let position = 0;
  /** Moves on by `size` bytes and returns where they begin. */
  const take = (size: number, what: string): number => {
    const begin = position;
    if (begin + size > MAX_HEAD_BYTES)
      fail(`${what} would end at byte ${begin + size}, beyond the largest possible head`);
    if (begin + size > bytes.length) {
      if (!isWhole) throw moreNeeded;
      fail(`it ends at byte ${bytes.length}, within ${what}: it is truncated`);
    }
    position += size;
    return begin;
  };
  const u32 = () => view.getUint32(take(4, 'a number'), true);
  const count = (what: string): number => {
    const value = view.getBigUint64(take(8, what), true);
    return value <= BigInt(MAX_HEAD_BYTES) ? Number(value) : fail(`its ${what} is ${value}`);
  };
  const text = (): string => {
    const length = count('length of a text');
    const begin = take(length, 'a text');
    return decoder.decode(bytes.subarray(begin, begin + length));
  };
  const array = (what: string, depth: number): GgufArray => {
    if (depth === MAX_ARRAY_DEPTH) fail(`${what} has arrays within arrays, more than ${MAX_ARRAY_DEPTH} deep`);
    const type = u32();
    const length = count(`length of ${what}`);
    const numbers = arrayOf.get(type);
    if (numbers !== undefined) {
      const begin = take(length * numbers.size, what);
      return numbers.make(bytes.slice(begin, begin + length * numbers.size));
    }
    const elements: (string | GgufArray)[] = [];
    for (let i = 0; i < length; i++) elements.push(value(type, what, depth + 1) as string | GgufArray);
    return elements as GgufArray;
  };
  const value = (type: number, what: string, depth: number): GgufValue => {
    if (type === STRING) return text();
    if (type === ARRAY) return array(what, depth);
    const single = arrayOf.get(type);
    if (single === undefined) return fail(`${what} is of the unknown type ${type}`);
    const begin = take(single.size, what);
    const given = single.make(bytes.slice(begin, begin + single.size))[0] as number | bigint;
    if (type === BOOLEAN) return given !== 0;
    return typeof given === 'bigint' && Number.isSafeInteger(Number(given)) ? Number(given) : given;
  };
  return { position: () => position, u32, count, text, value, u64: () => view.getBigUint64(take(8, 'a number'), true) };
}

/** With `begin` and `end` from the start of the data. */
function readTensor(reader: Reader, tensor: string, name: string, fail: Fail): GgufTensor {
  const dimensionCount = reader.u32();
  if (dimensionCount > MAX_DIMENSIONS) {
    fail(`tensor ${quote(tensor)} has ${dimensionCount} dimensions, expected at most ${MAX_DIMENSIONS}`);
  }
  const sizes = Array.from({ length: dimensionCount }, () => Number(reader.u64()));
  const elements = sizes.reduce((product, size) => product * size, 1);
  if (!sizes.every(Number.isSafeInteger) || !Number.isSafeInteger(elements * 4)) {
    fail(`the shape [${sizes.join(', ')}] of tensor ${quote(tensor)} overflows`);
  }
  const type = reader.u32();
  const dtype = (tensorTypes.get(type) ?? `number ${type}`) as WeightDtype;
  const begin = Number(reader.u64());
  if (!Object.hasOwn(formats, dtype)) {
    throw new UnsupportedModelError(
      `${name}: tensor ${quote(tensor)} has the data type ${dtype}, expected one of ${Object.keys(formats).join(', ')}. ` +
        'Use the model in one of these.',
    );
  }
  const { values, bytes } = formats[dtype];
  const rowSize = sizes[0] ?? 1;
  if (rowSize % values !== 0) {
    fail(`tensor ${quote(tensor)} has rows of ${rowSize} values, expected a multiple of ${values} for ${dtype}`);
  }
  const end = begin + (elements / values) * bytes;
  if (!Number.isSafeInteger(end)) fail(`tensor ${quote(tensor)} has the offset ${begin}`);
  return { dtype, shape: sizes.reverse(), begin, end };
}

/** In order of their offsets the tensors must fill the data, but for the padding behind each. */
function placeTensors(
  metadata: GgufMetadata,
  tensors: ReadonlyMap<string, GgufTensor>,
  dataBegin: number,
  alignment: number,
  fileBytes: number | null,
  fail: Fail,
): GgufHead {
  const inOrder = [...tensors].sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  let position = 0;
  let previous = '';
  for (const [tensor, { begin, end }] of inOrder) {
    if (begin % alignment !== 0)
      fail(`tensor ${quote(tensor)} has the offset ${begin}, expected a multiple of ${alignment}`);
    if (begin < position) fail(`tensor ${quote(tensor)} overlaps ${quote(previous)}`);
    if (begin - position >= alignment) {
      fail(`there is a hole of ${begin - position} bytes before tensor ${quote(tensor)}`);
    }
    if (fileBytes !== null && dataBegin + end > fileBytes) {
      fail(`tensor ${quote(tensor)} ends at byte ${dataBegin + end} of a file of ${fileBytes} bytes: it is truncated`);
    }
    position = end;
    previous = tensor;
  }
  const placed = [...tensors].map(([tensor, { dtype, shape, begin, end }]): [string, GgufTensor] => [
    tensor,
    { dtype, shape, begin: dataBegin + begin, end: dataBegin + end },
  ]);
  return { metadata, tensors: new Map(placed), dataBegin, dataEnd: dataBegin + position };
}

const isPowerOfTwo = (value: number) => Number.isInteger(Math.log2(value));
/** Names come from the file: kept on one line, and short. */
const quote = (name: string) => JSON.stringify(name.length > 120 ? `${name.slice(0, 120)}…` : name);
