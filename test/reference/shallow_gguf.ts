/** A GGUF file without its last layers: a draft that speaks its target's language, and agrees with it now and then. */
import { type GgufTensor, parseGgufHead } from '../../src/model/gguf.ts';
import { joinBytes, textBytes, u32Bytes, u64Bytes } from './gguf.ts';

const TENSOR_COUNT_AT = 8;

/** Its metadata, but for the number of layers, and the first `layerCount` of these stay as they are. */
export function withFirstLayers(file: Uint8Array, layerCount: number): Uint8Array<ArrayBuffer> {
  const { metadata, tensors, dataBegin } = parseGgufHead(file, true, 'the file')!;
  const alignment = Number(metadata.get('general.alignment') ?? 32);
  const pad = (bytes: Uint8Array) => new Uint8Array((alignment - (bytes.length % alignment)) % alignment);
  const isKept = (name: string) => !(Number(/^blk\.(\d+)\./.exec(name)?.[1] ?? 0) >= layerCount);

  // The records of tensors follow the metadata, in the order in which the head was read.
  const [[firstName, firstTensor]] = tensors as unknown as [[string, GgufTensor]];
  const infoBegin = indexOf(file, joinBytes([textBytes(firstName), u32Bytes(firstTensor.shape.length)]), dataBegin);
  const start = file.slice(0, infoBegin);
  const countKey = textBytes(`${metadata.get('general.architecture')}.block_count`);
  start.set(u32Bytes(layerCount), indexOf(start, countKey, start.length) + countKey.length + 4);

  const infos: Uint8Array[] = [];
  const data: Uint8Array[] = [];
  let at = infoBegin;
  let offset = 0;
  for (const [name, { shape, begin, end }] of tensors) {
    const offsetAt = at + textBytes(name).length + 4 + 8 * shape.length + 4;
    if (isKept(name)) {
      const bytes = file.subarray(begin, end);
      infos.push(file.subarray(at, offsetAt), u64Bytes(offset));
      data.push(bytes, pad(bytes));
      offset += bytes.length + pad(bytes).length;
    }
    at = offsetAt + 8;
  }
  start.set(u64Bytes(infos.length / 2), TENSOR_COUNT_AT);
  const head = joinBytes([start, ...infos]);
  return joinBytes([head, pad(head), ...data]);
}

function indexOf(bytes: Uint8Array, wanted: Uint8Array, end: number): number {
  for (let at = bytes.indexOf(wanted[0]!); at >= 0 && at < end; at = bytes.indexOf(wanted[0]!, at + 1)) {
    if (wanted.every((byte, i) => bytes[at + i] === byte)) return at;
  }
  throw new RangeError('Expected the bytes to be in the file.');
}
