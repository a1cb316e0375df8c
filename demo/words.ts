/** Numbers and names as this page writes them. */
import type { AdapterInfo, EngineInfo, FinishReason, ModelInfo } from 'foretoken';
import type { RaceReport } from './race.ts';
import { type DemoState, storyDraftLength } from './state.ts';

const none = '–';

export function percent(value: number | null, digits = 0): string {
  return value === null ? none : `${(value * 100).toFixed(digits)} %`;
}

export function decimal(value: number | null, digits: number): string {
  return value === null ? none : value.toFixed(digits);
}

export function ratioText(value: number | null): string {
  return value === null ? none : `${value.toFixed(2)}×`;
}

export function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(2)} MB`;
}

/** The most telling words that the browser gives about the adapter; many browsers leave all but two of them empty. */
export function adapterName({ vendor, architecture, device, description }: AdapterInfo): string {
  const parts = [description, vendor, architecture, device].filter((part) => part !== '');
  const name = [...new Set(parts)].join(' · ');
  return name === '' ? 'unnamed adapter' : name;
}

export function modelName(model: ModelInfo): string {
  return model.url.replace(/\/+$/, '').split('/').at(-1) ?? model.url;
}

export function pairName(info: EngineInfo): string {
  return info.draft === null ? modelName(info.target) : `${modelName(info.target)} + ${modelName(info.draft)}`;
}

export function finishText(reason: FinishReason): string {
  if (reason.type === 'stop') return 'the story ended itself (end-of-sequence token)';
  if (reason.type === 'length') return 'the token limit was reached';
  return 'stopped';
}

/** What "Copy result" puts on the clipboard. */
export function resultText(
  info: EngineInfo,
  state: DemoState,
  run: { tokensPerSecond: number | null; acceptanceRate: number | null; alpha: number | null; tokenCount: number },
  race: RaceReport | null,
): string {
  const speedup =
    race === null
      ? 'not measured (run the race)'
      : `${race.speedup.toFixed(2)}x measured, ` +
        `${race.prediction === null ? 'none' : `${race.prediction.speedup.toFixed(2)}x`} predicted, ` +
        `texts ${race.firstDifference === null ? 'identical' : `differ at token ${race.firstDifference}`}`;
  return [
    `foretoken on ${adapterName(info.adapter)} (lossless: ${info.lossless})`,
    `pair: ${pairName(info)}`,
    `k: ${storyDraftLength(state)}`,
    `acceptance rate: ${percent(run.acceptanceRate, 1)}, α: ${decimal(run.alpha, 3)}`,
    `tokens/s: ${decimal(run.tokensPerSecond, 1)} over ${run.tokenCount} tokens`,
    `speedup against k = 0: ${speedup}`,
    `prompt: ${state.prompt}`,
    `browser: ${navigator.userAgent}`,
  ].join('\n');
}
