/** A model as a folder in the Hugging Face layout. */
import { ModelFormatError } from '../errors.ts';
import type { TokenizerLike } from '../types.ts';
import { allOrAbort } from './abort.ts';
import { counted, type ReadOptions } from './body.ts';
import { createChatTemplate } from './chat_template.ts';
import { applyGenerationConfig, type ModelConfig, parseConfig } from './config.ts';
import type { OpenedModel } from './opened_model.ts';
import { readSafetensors } from './safetensors.ts';
import { readSafetensorsHead } from './safetensors_head.ts';
import { parseShardIndex, readShards, shardFiles } from './shards.ts';
import { type ModelSource, readFile } from './source.ts';
import type { TensorRows } from './tensor_rows.ts';
import { checkTensors } from './tensors.ts';
import { createTokenizer, wrapTokenizer } from './tokenizer.ts';

const MAX_CONFIG_BYTES = 2 ** 20;
/** The largest known tokenizer.json has 33 MB. */
const MAX_TOKENIZER_BYTES = 2 ** 28;
const MAX_INDEX_BYTES = 2 ** 26;

const WEIGHTS = 'model.safetensors';
const WEIGHTS_INDEX = 'model.safetensors.index.json';

/** What the small files say. A chat template is looked for where `wantsChat`. */
export async function openFolder(
  source: ModelSource,
  wantsChat: boolean,
  signal: AbortSignal | undefined,
  tokenizerLike: TokenizerLike | undefined,
): Promise<OpenedModel> {
  const named = (file: string) => source.url + file;
  const optional = (file: string) => (linked: AbortSignal) => readJson(source, file, MAX_CONFIG_BYTES, linked, true);
  const [config, { tokenizer, chatTemplate }] = await allOrAbort(signal, [
    async (linked) => {
      const [json, generationJson] = await allOrAbort(linked, [
        (inner) => readJson(source, 'config.json', MAX_CONFIG_BYTES, inner),
        optional('generation_config.json'),
      ]);
      const parsed = parseConfig(json, named('config.json'));
      if (generationJson === undefined) return parsed;
      return applyGenerationConfig(parsed, generationJson, named('generation_config.json'));
    },
    async (linked) => {
      const [json, tokenizerConfig = null, template] = await allOrAbort(linked, [
        async (inner) => (tokenizerLike ? null : readJson(source, 'tokenizer.json', MAX_TOKENIZER_BYTES, inner)),
        async (inner) => (tokenizerLike && !wantsChat ? null : optional('tokenizer_config.json')(inner)),
        async (inner) => (wantsChat ? readTemplate(source, inner) : null),
      ]);
      const inConfig = isRecord(tokenizerConfig) ? tokenizerConfig.chat_template : undefined;
      // Once more a file of its own, as processors have it.
      const asJson =
        wantsChat && template === null && inConfig === undefined
          ? await optional('chat_template.json')(linked)
          : undefined;
      const inJson = isRecord(asJson) ? asJson.chat_template : null;
      return {
        tokenizer: tokenizerLike ? null : createTokenizer(json, tokenizerConfig, named('tokenizer.json')),
        chatTemplate: createChatTemplate(
          wantsChat ? (template ?? inConfig ?? inJson) : null,
          tokenizerConfig,
          source.url,
        ),
      };
    },
  ]);
  if (tokenizer && tokenizer.baseVocabSize > config.vocabSize) {
    throw new ModelFormatError(
      `${named('tokenizer.json')} has token ids up to ${tokenizer.baseVocabSize - 1}, expected less than the vocab_size ` +
        `${config.vocabSize} of config.json. The files belong to different models.`,
    );
  }
  return {
    url: source.url,
    config,
    tokenizer: tokenizer ?? wrapTokenizer(tokenizerLike as TokenizerLike, config.vocabSize),
    chatTemplate,
    storedFormat: () => 'f16',
    weightFiles: (linked) => weightFiles(source, config, linked),
    readTensors: (options) => readTensors(source, config, options),
  };
}

/** Newer folders have the template in a file of its own; null where there is none. */
async function readTemplate(source: ModelSource, signal: AbortSignal): Promise<string | null> {
  const bytes = await readFile(source, 'chat_template.jinja', { signal, maxBytes: MAX_CONFIG_BYTES, optional: true });
  return bytes && new TextDecoder().decode(bytes);
}

async function weightFiles(source: ModelSource, config: ModelConfig, signal: AbortSignal | undefined) {
  const linked = signal && { signal };
  const single = await readSafetensorsHead(source, WEIGHTS, { ...linked, optional: true });
  if (single !== null) {
    checkTensors(config, single.stored, source.url + WEIGHTS);
    return [{ name: WEIGHTS, sizeBytes: single.sizeBytes }];
  }
  const json = await readJson(source, WEIGHTS_INDEX, MAX_INDEX_BYTES, signal, true);
  if (json !== undefined) return shardFiles(source, parseShardIndex(json, source.url + WEIGHTS_INDEX), config, signal);
  // Neither is there: the plain request says what the server answers.
  await source.open(WEIGHTS, { ...linked });
  return [];
}

/** From one file or, where that is absent, from shards. */
async function* readTensors(
  source: ModelSource,
  config: ModelConfig,
  options: Pick<ReadOptions, 'signal' | 'onBytes'>,
): AsyncGenerator<TensorRows, void, void> {
  const { signal, onBytes } = options;
  const linked = signal && { signal };
  let stream = await source.open(WEIGHTS, { ...linked, optional: true });
  if (!stream) {
    const json = await readJson(source, WEIGHTS_INDEX, MAX_INDEX_BYTES, signal, true);
    if (json !== undefined) {
      yield* readShards(source, parseShardIndex(json, source.url + WEIGHTS_INDEX), config, options);
      return;
    }
    // Neither is there: the plain request says what the server answers.
    stream = (await source.open(WEIGHTS, { ...linked })) as NonNullable<typeof stream>;
  }
  const label = source.url + WEIGHTS;
  yield* readSafetensors(counted(stream, onBytes), label, (stored) => checkTensors(config, stored, label));
}

/** Undefined for a missing optional file (null is valid JSON). */
async function readJson(
  source: ModelSource,
  file: string,
  maxBytes: number,
  signal: AbortSignal | undefined,
  optional = false,
): Promise<unknown> {
  const bytes = await readFile(source, file, { ...(signal && { signal }), maxBytes, optional });
  if (!bytes) {
    if (optional) return undefined;
    throw new ModelFormatError(`${source.url}${file} is missing. Check that the folder holds it.`);
  }
  const broken = (got: string) =>
    new ModelFormatError(
      `${source.url}${file} is not JSON: ${got}. Check the file on the server, or download it again.`,
    );
  if (bytes.length === 0) throw broken('it is empty');
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (error) {
    throw broken(error instanceof Error ? error.message : String(error));
  }
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
