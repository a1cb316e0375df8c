/** Runs the race, replays it side by side at recorded speed, and says why it ended as it did. */
import type { Engine } from 'foretoken';
import { byId, nextFrame, textAt } from './dom.ts';
import type { Recording } from './measure.ts';
import { type RaceReport, runRace } from './race.ts';
import type { DemoState } from './state.ts';
import { appendRound, markDifference, startStory } from './story_view.ts';
import { decimal, ratioText } from './words.ts';

export function installRace(page: {
  settings: () => DemoState;
  perform: (work: (engine: Engine, signal: AbortSignal) => Promise<void>) => Promise<void>;
  finished: (report: RaceReport) => void;
}): void {
  const result = byId('race-result', HTMLElement);
  const status = byId('race-status', HTMLElement);
  const replayButton = byId('race-replay', HTMLButtonElement);
  let report: RaceReport | null = null;
  let replay: AbortController | null = null;

  const showReplay = async (race: RaceReport, atOnce: boolean): Promise<void> => {
    replay?.abort();
    replay = new AbortController();
    await replayRace(race, replay.signal, atOnce);
  };

  byId('race-start', HTMLButtonElement).addEventListener('click', () => {
    const settings = page.settings();
    void page.perform(async (engine, signal) => {
      replay?.abort();
      result.hidden = true;
      result.dataset.state = 'running';
      replayButton.disabled = true;
      try {
        report = await runRace(engine, {
          ...settings,
          signal,
          onProgress: ({ done, total, label }) => {
            status.textContent = `${label} (${done} of ${total}).`;
          },
        });
      } catch (error) {
        result.dataset.state = signal.aborted ? 'stopped' : 'failed';
        status.textContent = signal.aborted ? 'Stopped.' : '';
        throw error;
      }
      page.finished(report);
      showReport(report);
      result.hidden = false;
      result.dataset.state = 'done';
      status.textContent = verdict(report);
      replayButton.disabled = false;
      // The texts are shown at once to people who asked for less motion; they can still press Replay.
      void showReplay(report, matchMedia('(prefers-reduced-motion: reduce)').matches);
    });
  });

  replayButton.addEventListener('click', () => {
    if (report !== null) void showReplay(report, false);
  });
}

type RaceFigures = { speedup: number; draftLength: number; pairs: readonly { speedup: number }[] };

/** A gain that not every pair shows is called none, and so is a loss. */
export function verdict({ speedup, pairs, draftLength }: RaceFigures): string {
  const pays = pairs.every((pair) => pair.speedup > 1);
  const loses = pairs.every((pair) => pair.speedup <= 1);
  return (
    `With k = ${draftLength} this device reaches ${speedup.toFixed(2)}× the tokens per second of plain decoding: ` +
    `speculation ${pays ? 'pays' : loses ? 'does not pay' : 'makes no clear difference'} here.`
  );
}

function showReport(race: RaceReport): void {
  const { draftLength: k, prediction, costs, firstDifference } = race;
  textAt('lane-speculative-title', `k = ${k}, speculative`);
  textAt('race-texts', firstDifference === null ? 'identical' : `differ from token ${firstDifference}`);
  byId('race-texts', HTMLElement).classList.toggle('warning', firstDifference !== null);
  textAt('race-speedup', ratioText(race.speedup));
  textAt('race-predicted', ratioText(prediction?.speedup ?? null));
  textAt('race-alpha', decimal(race.alpha, 2));
  textAt('race-c', decimal(costs.c, 2));
  textAt('race-v-name', `v(${k + 1})`);
  textAt('race-v', decimal(costs.v[k] ?? null, 2));
  textAt(
    'race-reason',
    prediction === null ? 'Nothing was drafted, so there is nothing to predict.' : reasonText(race),
  );
  textAt('race-method', race.method);
}

/** One paragraph: what a round yields against what it costs, in target steps. */
function reasonText({ prediction, costs, speedup }: Pick<RaceReport, 'prediction' | 'costs' | 'speedup'>): string {
  if (prediction === null) return '';
  const { draftLength: k, alpha, c, v, expectedTokens, roundCost } = prediction;
  const drafting = k * c;
  const checking = v - 1;
  const breakEven =
    prediction.speedup > 1
      ? 'It yields more than it costs, so a gain is predicted.'
      : `It yields less than it costs: ${drafting > checking ? 'the draft steps weigh most' : 'checking several rows at once weighs most'}.`;
  const apart =
    Math.abs(speedup / prediction.speedup - 1) > 0.2
      ? ' They are more than a fifth apart: the prediction leaves out the host, and other work on this machine slows both.'
      : '';
  return (
    `Why: at α = ${alpha.toFixed(2)} a round of ${k} drafts yields E = ${expectedTokens.toFixed(2)} tokens. It costs ` +
    `k·c + v(k+1) = ${k} × ${c.toFixed(2)} + ${v.toFixed(2)} = ${roundCost.toFixed(2)} target steps of ` +
    `${costs.targetStepMs.toFixed(2)} ms. ${breakEven} Predicted: ${prediction.speedup.toFixed(2)}×; measured: ${speedup.toFixed(2)}×.${apart}`
  );
}

async function replayRace(race: RaceReport, signal: AbortSignal, atOnce: boolean): Promise<void> {
  const lanes = [lane('plain', race.shown.plain), lane('speculative', race.shown.speculative)];
  for (const { place } of lanes) startStory(place, race.prompt);
  const start = performance.now();
  for (;;) {
    const timeMs = atOnce ? Number.POSITIVE_INFINITY : performance.now() - start;
    const running = lanes.map((each) => advance(each, timeMs));
    if (!running.includes(true)) break;
    await nextFrame();
    if (signal.aborted) return;
  }
  if (race.firstDifference !== null) for (const { place } of lanes) markDifference(place, race.firstDifference);
}

type Lane = { place: HTMLElement; clock: HTMLElement; recording: Recording; next: number; position: number };

function lane(name: 'plain' | 'speculative', recording: Recording): Lane {
  const place = byId(`lane-${name}`, HTMLElement);
  return { place, clock: byId(`lane-${name}-clock`, HTMLElement), recording, next: 0, position: 0 };
}

/** Writes the rounds that had arrived by `timeMs`; true while some are left. */
function advance(lane: Lane, timeMs: number): boolean {
  const { rounds, result } = lane.recording;
  const endMs = rounds.at(-1)?.timeMs ?? 0;
  while (lane.next < rounds.length && rounds[lane.next]!.timeMs <= timeMs) {
    lane.position = appendRound(lane.place, rounds[lane.next]!.round, lane.position);
    lane.next += 1;
  }
  const speed = decimal(result.stats.tokensPerSecond, 1);
  const left = lane.next < rounds.length;
  lane.place.dataset.state = left ? 'running' : 'done';
  lane.clock.textContent = `${(Math.min(timeMs, endMs) / 1000).toFixed(2)} s${left ? '' : `, ${speed} tokens/s`}`;
  return left;
}
