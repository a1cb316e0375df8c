/** Loads the engine and shows how that goes: bytes, facts, or what is wrong and what to do. */
import {
  createEngine,
  type Engine,
  type EngineInfo,
  type EngineOptions,
  isForetokenError,
  type LoadProgress,
} from 'foretoken';
import { byId, element, textAt } from './dom.ts';
import { docsUrlOf } from './links.ts';
import { adapterName, megabytes, modelName } from './words.ts';

/** The engine, or null when there is none: then the problem is on the page, unless the signal ended it. Nothing is thrown. */
export async function loadEngine(options: EngineOptions, signal: AbortSignal): Promise<Engine | null> {
  byId('problem', HTMLElement).hidden = true;
  byId('facts', HTMLElement).hidden = true;
  const loading = byId('loading', HTMLElement);
  if (!('gpu' in navigator) || navigator.gpu === undefined) {
    loading.hidden = true;
    showUnsupported('navigator.gpu is missing.');
    return null;
  }
  loading.hidden = false;
  const hasDraft = options.draft !== null && typeof options.draft !== 'object';
  byId('loading-draft', HTMLElement).hidden = !hasDraft;
  for (const model of ['target', 'draft'] as const) {
    byId(`progress-${model}`, HTMLProgressElement).value = 0;
    textAt(`bytes-${model}`, 'waiting');
  }
  textAt('loading-stage', '');
  try {
    const engine = await createEngine({ ...options, signal, onProgress: showProgress });
    loading.hidden = true;
    showFacts(engine.info);
    return engine;
  } catch (error) {
    if (signal.aborted) return null;
    loading.hidden = true;
    if (isForetokenError(error) && error.name === 'WebGPUUnavailableError') showUnsupported(error.message);
    else showProblem(error, 'The models could not be loaded', true);
    return null;
  }
}

function showProgress({ model, loadedBytes, totalBytes }: LoadProgress): void {
  const bar = byId(`progress-${model}`, HTMLProgressElement);
  if (totalBytes === null) {
    bar.removeAttribute('value'); // indeterminate: the server told no length
    textAt(`bytes-${model}`, `${megabytes(loadedBytes)} so far`);
  } else {
    bar.max = totalBytes;
    bar.value = loadedBytes;
    textAt(`bytes-${model}`, `${megabytes(loadedBytes)} of ${megabytes(totalBytes)}`);
  }
  const shown = byId('loading-draft', HTMLElement).hidden ? ['target'] : ['target', 'draft'];
  const bars = shown.map((name) => byId(`progress-${name}`, HTMLProgressElement));
  const allLoaded = bars.every((bar) => bar.position === 1); // -1 while indeterminate
  textAt('loading-stage', allLoaded ? 'Fetched. Now the upload to the GPU, the shaders and a self-test.' : '');
}

function showFacts(info: EngineInfo): void {
  byId('facts', HTMLElement).hidden = false;
  textAt('fact-adapter', adapterName(info.adapter));
  textAt('fact-lossless', info.lossless);
  byId('fact-lossless', HTMLElement).dataset.lossless = info.lossless;
  const model = (facts: EngineInfo['target']) =>
    `${modelName(facts)}, ${(facts.parameterCount / 1e6).toFixed(2)} M parameters, ${facts.layerCount} layers`;
  textAt('fact-target', model(info.target));
  textAt('fact-draft', info.draft === null ? (info.drafter === 'ngram' ? 'n-gram lookup' : 'none') : model(info.draft));
  textAt('fact-load', `${(info.loadTimeMs / 1000).toFixed(2)} s`);
  textAt('fact-memory', megabytes(info.gpuBytes));
}

/** Shows a typed error with its name, its message and its section of the docs. */
export function showProblem(error: unknown, title: string, canReload: boolean): void {
  const name = error instanceof Error ? error.name : 'Error';
  const message = error instanceof Error ? error.message : String(error);
  showPanel(`${title}: ${name}`, message, [], canReload);
  const docs = byId('problem-docs', HTMLAnchorElement);
  const url = isForetokenError(error) ? docsUrlOf(error.name) : null;
  docs.hidden = url === null;
  if (url !== null) {
    docs.href = url;
    docs.textContent = `What to do about ${name}`;
  }
}

function showUnsupported(reason: string): void {
  const why = window.isSecureContext
    ? `This browser offers no WebGPU here: ${reason} The models need it to compute, so the rest of the page is switched off.`
    : 'WebGPU exists on secure pages only. Open this page over https, or from localhost.';
  const list = element(
    'ul',
    {},
    remedies.map(([browser, remedy]) =>
      element('li', {}, [element('strong', { textContent: `${browser}: ` }), ...withCode(remedy)]),
    ),
  );
  showPanel('WebGPU is not available', why, [list], true);
  byId('problem-docs', HTMLAnchorElement).hidden = true;
}

/** Text with what stands between backticks as code. */
function withCode(text: string): (Node | string)[] {
  return text.split('`').map((part, i) => (i % 2 === 1 ? element('code', { textContent: part }) : part));
}

const remedies: [string, string][] = [
  [
    'Chrome, Edge, Opera (113 or later; 121 on Android)',
    'update the browser, switch on “Use graphics acceleration when available” in its system settings, and look for “WebGPU” on `chrome://gpu`.',
  ],
  [
    'Chrome on Linux',
    'where `chrome://gpu` says that WebGPU is disabled, start it with `--enable-unsafe-webgpu` `--enable-features=Vulkan`.',
  ],
  ['Safari', 'version 26 or later, on macOS, iOS, iPadOS or visionOS 26.'],
  [
    'Firefox',
    'version 141 or later on Windows, 145 or later on a Mac with Apple silicon; elsewhere set `dom.webgpu.enabled` on `about:config` in Nightly.',
  ],
];

function showPanel(title: string, message: string, help: Node[], canReload: boolean): void {
  textAt('problem-title', title);
  byId('problem-message', HTMLElement).replaceChildren(...withCode(message));
  byId('problem-help', HTMLElement).replaceChildren(...help);
  byId('retry', HTMLButtonElement).hidden = !canReload;
  byId('problem', HTMLElement).hidden = false;
}
