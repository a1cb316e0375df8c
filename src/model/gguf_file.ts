/** A model as one GGUF file. */
import { ModelFormatError } from '../errors.ts';
import type { TokenizerLike } from '../types.ts';
import { createChatTemplate } from './chat_template.ts';
import { type GgufHead, MAX_HEAD_BYTES, parseGgufHead } from './gguf.ts';
import { applyRopeFactors, findRopeFactors, parseGgufConfig } from './gguf_config.ts';
import { readMetadata } from './gguf_metadata.ts';
import { placeModelTensors, takeModelTensors } from './gguf_tensors.ts';
import { readGgufTokenizer } from './gguf_tokenizer.ts';
import type { OpenedModel } from './opened_model.ts';
import type { ModelSource } from './source.ts';
import { toFloat32 } from './stored_values.ts';
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
  const { tokenizerJson, tokenizerConfig } = readGgufTokenizer(metadata);
  const tokenizer = tokenizerLike
    ? wrapTokenizer(tokenizerLike, config.vocabSize)
    : createTokenizer(tokenizerJson, tokenizerConfig, name);
  if (tokenizer.baseVocabSize > config.vocabSize) {
    throw new ModelFormatError(
      `${name} has token ids up to ${tokenizer.baseVocabSize - 1}, expected less than the ${config.vocabSize} rows of its ` +
        'token_embd.weight. Download or convert the file again.',
    );
  }
  return {
    url: name,
    config,
    tokenizer,
    chatTemplate: createChatTemplate(tokenizerConfig.chat_template, tokenizerConfig, name),
    async readTensors(options) {
      const { dataBegin, dataEnd, tensors } = head;
      const isWhole = start.length >= dataEnd;
      const range = { begin: dataBegin, end: dataEnd };
      const data = isWhole
        ? start.subarray(dataBegin, dataEnd)
        : ((await source.read(file, { ...options, range })) as Uint8Array);
      if (isWhole) for (const loaded of [0, data.length]) options.onBytes?.(loaded, data.length);
      if (data.length < dataEnd - dataBegin) {
        throw new ModelFormatError(
          `${name} is not a valid GGUF file: its tensors end at byte ${dataEnd}, the file at byte ` +
            `${dataBegin + data.length}: it is truncated. Download or convert it again.`,
        );
      }
      const taken = takeModelTensors(config, placed, data, dataBegin);
      if (factors === null) return { config, tensors: taken };
      const { begin, end } = tensors.get(factors.tensor) as { begin: number; end: number };
      const values = toFloat32({ dtype: 'F32', data: data.subarray(begin - dataBegin, end - dataBegin) });
      return { config: applyRopeFactors(config, values, factors, name), tensors: taken };
    },
  };
}

/** The head, and the bytes that were read for it: more and more from the start of the file until they hold all of it. */
async function readHead(
  source: ModelSource,
  file: string,
  signal: AbortSignal | undefined,
): Promise<{ head: GgufHead; start: Uint8Array }> {
  let start = new Uint8Array(0);
  for (let wanted = FIRST_READ_BYTES; wanted <= MAX_HEAD_BYTES; wanted *= 2) {
    const range = { begin: start.length, end: wanted };
    const more = (await source.read(file, { ...(signal && { signal }), range })) as Uint8Array;
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
