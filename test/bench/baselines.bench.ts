/** One contestant of `npm run bench -- --baselines`, in a page of its own: foretoken, transformers.js or wllama. */
import { createEngine } from 'foretoken';
import { recordRun, speedOf } from '../../demo/measure.ts';
import { parseConfig } from '../../src/model/config.ts';
import { readSafetensors } from '../reference/checkpoint.ts';
import { convertToGguf, ggufTokenizerFields } from '../reference/gguf.ts';

export type ContestantOptions =
  | { program: 'foretoken' }
  /** `model` is a folder that tools/export_onnx.py wrote. */
  | { program: 'transformers.js'; model: string; device: 'webgpu' | 'wasm'; dtype: 'fp32' | 'fp16'; threads: number }
  | { program: 'wllama'; device: 'webgpu' | 'wasm'; threads: number };

/** Greedy. Speed as everywhere here: tokens after the first, by the time from it to the last. */
export type ContestantRun = { text: string; tokenCount: number; tokensPerSecond: number };
type Generate = (prompt: string, maxNewTokens: number, draftLength: number) => Promise<ContestantRun>;

const target = '/models/stories-3m/';
const packages = '/baselines/node_modules/';
/** Programs without types: they are installed only where the bench is run. */
const load = (url: string) => import(/* @vite-ignore */ url);

let generate: Generate;

/** What the program says of itself, once its model is loaded. */
export async function open(options: ContestantOptions): Promise<Record<string, unknown>> {
  const opened =
    options.program === 'foretoken'
      ? await openForetoken()
      : options.program === 'wllama'
        ? await openWllama(options)
        : await openTransformers(options);
  generate = opened.generate;
  return opened.facts;
}

export const run: Generate = (...call) => generate(...call);

type Opened = { generate: Generate; facts: Record<string, unknown> };

async function openForetoken(): Promise<Opened> {
  const engine = await createEngine({ target, draft: '/models/stories-650k/' });
  return {
    facts: { adapter: engine.info.adapter },
    async generate(prompt, maxNewTokens, draftLength) {
      const recording = await recordRun(engine, prompt, { draftLength, maxNewTokens, temperature: 0 });
      const { text, tokens } = recording.result;
      return { text, tokenCount: tokens.length, tokensPerSecond: speedOf(recording) };
    },
  };
}

/** Speed from the times at which tokens arrived. */
function speedFrom(timesMs: readonly number[]): number {
  const [first, last] = [timesMs[0], timesMs.at(-1)];
  if (first === undefined || last === undefined || last <= first)
    throw new Error('Expected two tokens or more to time.');
  return (1000 * (timesMs.length - 1)) / (last - first);
}

async function openTransformers(options: Extract<ContestantOptions, { program: 'transformers.js' }>): Promise<Opened> {
  const { env, AutoTokenizer, AutoModelForCausalLM, BaseStreamer } = await load(
    `${packages}@huggingface/transformers/dist/transformers.min.js`,
  );
  Object.assign(env, { allowRemoteModels: false, allowLocalModels: true, localModelPath: '/baselines/models/' });
  env.useBrowserCache = false;
  Object.assign(env.backends.onnx.wasm, {
    wasmPaths: `${location.origin}${packages}onnxruntime-web/dist/`,
    numThreads: options.threads,
  });
  const tokenizer = await AutoTokenizer.from_pretrained(options.model);
  const model = await AutoModelForCausalLM.from_pretrained(options.model, {
    device: options.device,
    dtype: options.dtype,
  });

  class Times extends BaseStreamer {
    timesMs: number[] = [];
    put() {
      this.timesMs.push(performance.now());
    }
    end() {}
  }
  const cacheLocation = await locationOfCache(model, tokenizer('a'));
  const wanted = options.device === 'webgpu' ? 'gpu-buffer' : 'cpu';
  if (cacheLocation !== wanted) throw new Error(`its keys and values are in ${cacheLocation}, expected ${wanted}`);
  return {
    facts: { version: env.version, cacheLocation },
    async generate(prompt, maxNewTokens) {
      const inputs = tokenizer(prompt);
      const streamer = new Times();
      const output = await model.generate({ ...inputs, do_sample: false, max_new_tokens: maxNewTokens, streamer });
      const promptLength = inputs.input_ids.dims.at(-1);
      const tokens = output.tolist()[0].slice(promptLength).map(Number);
      // The first call brings the prompt.
      const timesMs = streamer.timesMs.slice(1);
      const text = tokenizer.decode(tokens, { skip_special_tokens: true, clean_up_tokenization_spaces: false });
      return { text, tokenCount: tokens.length, tokensPerSecond: speedFrom(timesMs) };
    },
  };
}

/** Where transformers.js keeps keys and values between tokens. */
// biome-ignore lint/suspicious/noExplicitAny: its types are not installed with this repository
async function locationOfCache(model: any, inputs: object): Promise<string> {
  const { past_key_values: cache } = await model.generate({
    ...inputs,
    max_new_tokens: 2,
    return_dict_in_generate: true,
  });
  const [first] = Object.values(cache) as { location: string }[];
  const location = first?.location ?? 'no cache';
  await cache.dispose();
  return location;
}

async function openWllama(options: Extract<ContestantOptions, { program: 'wllama' }>): Promise<Opened> {
  const { Wllama } = await load(`${packages}@wllama/wllama/esm/index.js`);
  const lines: string[] = [];
  const log = (...words: unknown[]) => lines.push(words.join(' '));
  const wllama = new Wllama(
    { default: `${location.origin}${packages}@wllama/wllama/esm/wasm/wllama.wasm` },
    { logger: { debug: log, log, warn: log, error: log } },
  );
  await wllama.loadModel([new Blob([await targetAsGguf()])], {
    n_ctx: 1024,
    n_threads: options.threads,
    n_gpu_layers: options.device === 'webgpu' ? 99 : 0,
    log_level: 2, // where the weights are is information
  });
  // It goes on without saying so.
  const isOnGpu = lines.some((line) => /WebGPU.* model buffer size/.test(line));
  if (isOnGpu !== (options.device === 'webgpu')) {
    throw new Error(`it put the weights on the ${isOnGpu ? 'GPU' : 'CPU: no WebGPU device that it can use'}`);
  }
  return {
    facts: { libllama: Wllama.getLibllamaVersion(), threads: wllama.getNumThreads() },
    async generate(prompt, maxNewTokens) {
      const timesMs: number[] = [];
      let text = '';
      const stream = await wllama.createCompletion({ prompt, max_tokens: maxNewTokens, temperature: 0, stream: true });
      for await (const chunk of stream) {
        const piece = chunk.choices[0]?.text ?? '';
        if (piece === '') continue;
        text += piece;
        timesMs.push(performance.now());
      }
      // A chunk is a token, but within a character; the count is compared.
      return { text, tokenCount: timesMs.length, tokensPerSecond: speedFrom(timesMs) };
    },
  };
}

/** The target's own weights (f16) in the other file format. */
async function targetAsGguf(): Promise<Uint8Array<ArrayBuffer>> {
  const fetched = async (file: string) => {
    const response = await fetch(target + file);
    if (!response.ok) throw new Error(`${target}${file}: ${response.status}`);
    return response;
  };
  const config = parseConfig(await (await fetched('config.json')).json(), 'config.json');
  const tensors = readSafetensors(new Uint8Array(await (await fetched('model.safetensors')).arrayBuffer()));
  const tokenizer = await (await fetched('tokenizer.json')).json();
  return convertToGguf(config, tensors, {
    ...ggufTokenizerFields(tokenizer, 'gpt-2', config.vocabSize),
    'tokenizer.ggml.bos_token_id': ['u32', 0],
    'tokenizer.ggml.eos_token_id': ['u32', 0],
    'tokenizer.ggml.add_bos_token': ['bool', true],
  });
}
