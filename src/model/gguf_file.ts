/** A model as one GGUF file. */
import { ModelFormatError } from '../errors.ts';
import type { TokenizerLike } from '../types.ts';
import { collect, counted, type FileStream, type ReadOptions, streamOf } from './body.ts';
import { createByteReader } from './byte_reader.ts';
import { createChatTemplate } from './chat_template.ts';
import type { ModelConfig } from './config.ts';
import { type GgufHead, type GgufTensor, MAX_HEAD_BYTES, parseGgufHead } from './gguf.ts';
import { packedFormatOf } from './gguf_blocks.ts';
import { applyRopeFactors, findRopeFactors, parseGgufConfig } from './gguf_config.ts';
import { readMetadata } from './gguf_metadata.ts';
import { ggufReadPlan, placeModelTensors, restoreRows } from './gguf_tensors.ts';
import { readGgufTokenizer } from './gguf_tokenizer.ts';
import type { OpenedModel } from './opened_model.ts';
import { type ModelSource, readFile } from './source.ts';
import { toFloat32 } from './stored_values.ts';
import { readRows, type TensorRows } from './tensor_rows.ts';
import { createTokenizer, wrapTokenizer } from './tokenizer.ts';

/** Holds the vocabulary of most models; the next try takes twice as many. */
const FIRST_READ_BYTES = 2 ** 22;

/** All that the head of the file says, checked as far as it goes. */
export async function openGguf(
  source: ModelSource,
  file: string,
  signal: AbortSignal | undefined,
  tokenizerLike: TokenizerLike | undefined,
): Promise<OpenedModel> {
  const name = source.url + file;
  const { head, start } = await readHead(source, file, signal);
  const metadata = readMetadata(head, name);
  const config = parseGgufConfig(head, metadata);
  const placed = placeModelTensors(config, head, name);
  const factors = findRopeFactors(head, metadata, config);
  let complete = config;
  if (factors !== null) {
    const range = head.tensors.get(factors.tensor) as GgufTensor;
    const bytes = await collect(await openRange(source, file, start, range, signal), name);
    if (bytes.length < range.end - range.begin) throw truncatedError(name, range.end, range.begin + bytes.length);
    complete = applyRopeFactors(config, toFloat32({ dtype: 'F32', data: bytes }), factors, name);
  }
  const { tokenizerJson, tokenizerConfig, pieceRanks } = readGgufTokenizer(metadata);
  const tokenizer = tokenizerLike
    ? wrapTokenizer(tokenizerLike, config.vocabSize)
    : createTokenizer(tokenizerJson, tokenizerConfig, name, pieceRanks);
  if (tokenizer.baseVocabSize > config.vocabSize) {
    throw new ModelFormatError(
      `${name} has token ids up to ${tokenizer.baseVocabSize - 1}, expected less than the ${config.vocabSize} rows of its ` +
        'token_embd.weight. Download or convert the file again.',
    );
  }
  return {
    url: name,
    config: complete,
    tokenizer,
    chatTemplate: createChatTemplate(tokenizerConfig.chat_template, tokenizerConfig, name),
    storedFormat: (tensor) => packedFormatOf((placed.get(tensor) as GgufTensor).dtype),
    weightFiles: async () => [{ name: file, sizeBytes: head.dataEnd }],
    readTensors: (options) => readTensors(source, file, { config: complete, head, placed, start }, options),
  };
}

type OpenedGguf = {
  config: ModelConfig;
  head: GgufHead;
  placed: ReadonlyMap<string, GgufTensor>;
  /** The first bytes of the file. */
  start: Uint8Array;
};

async function* readTensors(
  source: ModelSource,
  file: string,
  { config, head: { dataBegin, dataEnd }, placed, start }: OpenedGguf,
  { signal, onBytes }: Pick<ReadOptions, 'signal' | 'onBytes'>,
): AsyncGenerator<TensorRows, void, void> {
  const stream = await openRange(source, file, start, { begin: dataBegin, end: dataEnd }, signal);
  const reader = createByteReader(counted(stream, onBytes));
  const truncated = (position = reader.position()) => truncatedError(source.url + file, dataEnd, dataBegin + position);
  try {
    if (stream.isFirm && stream.length !== null && stream.length < dataEnd - dataBegin) {
      await reader.skip(1); // a stream must be begun before it can be ended
      throw truncated(stream.length);
    }
    const plan = ggufReadPlan(config, placed).map((tensor) => ({
      ...tensor,
      begin: tensor.begin - dataBegin,
      end: tensor.end - dataBegin,
    }));
    const rows = readRows(reader, plan, () => {
      throw truncated();
    });
    for await (const some of rows) yield restoreRows(config, some);
    await reader.skip(Number.POSITIVE_INFINITY);
    if (reader.position() < dataEnd - dataBegin) throw truncated();
  } finally {
    await reader.close();
  }
}

/** Bytes of the file, from what was read of it already where that is enough. */
async function openRange(
  source: ModelSource,
  file: string,
  start: Uint8Array,
  range: { begin: number; end: number },
  signal: AbortSignal | undefined,
): Promise<FileStream> {
  if (start.length >= range.end) return streamOf(start.subarray(range.begin, range.end));
  return (await source.open(file, { ...(signal && { signal }), range })) as FileStream;
}

const truncatedError = (name: string, expectedEnd: number, end: number) =>
  new ModelFormatError(
    `${name} is not a valid GGUF file: its tensors end at byte ${expectedEnd}, the file at byte ${end}: it is truncated. ` +
      'Download or convert it again.',
  );

/** The head, and the bytes that were read for it: more and more from the start of the file until they hold all of it. */
async function readHead(
  source: ModelSource,
  file: string,
  signal: AbortSignal | undefined,
): Promise<{ head: GgufHead; start: Uint8Array }> {
  let start = new Uint8Array(0);
  for (let wanted = FIRST_READ_BYTES; wanted <= MAX_HEAD_BYTES; wanted *= 2) {
    const range = { begin: start.length, end: wanted };
    const more = (await readFile(source, file, { ...(signal && { signal }), range })) as Uint8Array;
    const joined = new Uint8Array(start.length + more.length);
    joined.set(start);
    joined.set(more, start.length);
    start = joined;
    const head = parseGgufHead(start, start.length < wanted, source.url + file);
    if (head !== null) return { head, start };
  }
  throw new ModelFormatError(
    `${source.url}${file} is not a valid GGUF file: its head is longer than ${MAX_HEAD_BYTES} bytes. Download or convert ` +
      'it again.',
  );
}
