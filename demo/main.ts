/** Wires the page together: one engine, at most one activity on it, and the settings in the URL. */
import type { Engine, GenerateResult } from 'foretoken';
import { installBench } from './bench_view.ts';
import { installChat } from './chat_view.ts';
import { acceptanceProbability } from './cost_model.ts';
import { installDefinitions } from './definitions.ts';
import { announce, byId, copyFrom, element } from './dom.ts';
import { loadEngine, showProblem } from './engine_panel.ts';
import { repositoryUrl } from './links.ts';
import { installModelPanel } from './model_panel.ts';
import { defaultChoice, engineOptions, type ModelChoice, pairOf, parseChoice, sameChoice } from './models.ts';
import { createNumbersView } from './numbers_view.ts';
import type { RaceReport } from './race.ts';
import { installRace } from './race_view.ts';
import {
  type DemoState,
  integerWithin,
  largestMaxNewTokens,
  maxDraftLength,
  parseState,
  sameState,
  stateSearch,
  storyDraftLength,
} from './state.ts';
import { appendRound, startStory } from './story_view.ts';
import { buildTogether, installTogether } from './together_view.ts';
import { finishText, pairName, percent, resultText } from './words.ts';

type ActivityName = 'story' | 'chat' | 'together' | 'race' | 'bench';

buildTogether();
const form = byId('controls', HTMLFormElement);
const promptBox = byId('prompt', HTMLTextAreaElement);
const draftSlider = byId('draft-length', HTMLInputElement);
const autoBox = byId('draft-auto', HTMLInputElement);
const tokensBox = byId('max-new-tokens', HTMLInputElement);
const story = byId('story', HTMLElement);
const storyEnd = byId('story-end', HTMLElement);
const copyResult = byId('copy-result', HTMLButtonElement);
const buttons: Record<ActivityName, { start: HTMLButtonElement; stop: HTMLButtonElement }> = {
  story: { start: byId('start', HTMLButtonElement), stop: byId('stop', HTMLButtonElement) },
  chat: { start: byId('chat-start', HTMLButtonElement), stop: byId('chat-stop', HTMLButtonElement) },
  together: { start: byId('together-start', HTMLButtonElement), stop: byId('together-stop', HTMLButtonElement) },
  race: { start: byId('race-start', HTMLButtonElement), stop: byId('race-stop', HTMLButtonElement) },
  bench: { start: byId('bench-start', HTMLButtonElement), stop: byId('bench-stop', HTMLButtonElement) },
};

/** After these the engine is of no use any more, and has to be made anew. */
const lostNames = ['DeviceLostError', 'WorkerError', 'EngineDisposedError'];

installDefinitions(document);
const numbers = createNumbersView();
let engine: Engine | null = null;
let activity: { name: ActivityName; controller: AbortController } | null = null;
let lastStory: { state: DemoState; result: GenerateResult; alpha: number | null } | null = null;
let lastRace: RaceReport | null = null;
let loading = new AbortController();

// Settings and URL

let urlState = parseState(location.search).state;
let choice = parseChoice(location.search);
// Edits after a run open a new history entry, further edits replace it: Back leads to the settings that were used before.
let entryWasUsed = true;

function formState(): DemoState {
  return {
    prompt: promptBox.value,
    draftLength: draftSlider.valueAsNumber,
    auto: autoBox.checked,
    maxNewTokens: integerWithin(tokensBox.value, 1, largestMaxNewTokens) ?? urlState.maxNewTokens,
  };
}

function showState(state: DemoState): void {
  promptBox.value = state.prompt;
  draftSlider.valueAsNumber = state.draftLength;
  autoBox.checked = state.auto;
  tokensBox.valueAsNumber = state.maxNewTokens;
  showDraftLength();
}

function showDraftLength(): void {
  const draftLength = draftSlider.valueAsNumber;
  const fixed = draftLength === 0 ? '0, plain decoding' : String(draftLength);
  byId('draft-length-value', HTMLOutputElement).value = autoBox.checked ? 'auto' : fixed;
  byId('race-k', HTMLElement).textContent = draftLength === 0 ? '(k ≥ 1)' : String(draftLength);
  updateButtons();
}

function writeUrl(): void {
  const state = formState();
  if (state.prompt.trim() === '' || sameState(state, urlState)) return;
  urlState = state;
  if (entryWasUsed) history.pushState(null, '', stateSearch(state, false, choice));
  else history.replaceState(null, '', stateSearch(state, false, choice));
  entryWasUsed = false;
}

draftSlider.addEventListener('input', () => {
  autoBox.checked = false; // who moves it wants what it shows
  showDraftLength();
});
autoBox.addEventListener('change', showDraftLength);
form.addEventListener('change', writeUrl);
window.addEventListener('popstate', () => {
  urlState = parseState(location.search).state;
  entryWasUsed = true;
  showState(urlState);
  const chosen = parseChoice(location.search);
  if (!sameChoice(chosen, choice) && choice.pair !== 'files') void choose(chosen);
});

// Activities: the story, the race, the bench. One at a time, because they share the engine and two would be timed as one.

function updateButtons(): void {
  const idle = engine !== null && activity === null;
  const canRace = draftSlider.valueAsNumber > 0;
  for (const name of ['story', 'chat', 'together', 'race', 'bench'] as const) {
    const canStart = name === 'race' ? canRace : name !== 'chat' || chat.canChat();
    buttons[name].start.disabled = !idle || !canStart;
    buttons[name].stop.disabled = activity?.name !== name;
  }
  byId('race-hint', HTMLElement).textContent = canRace ? '' : 'Choose k of at least 1 to race.';
  copyResult.disabled = !idle || lastStory === null;
}

async function perform(
  name: ActivityName,
  work: (engine: Engine, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  if (engine === null || activity !== null) return;
  const controller = new AbortController();
  const { start, stop } = buttons[name];
  const hadFocus = document.activeElement === start;
  activity = { name, controller };
  byId('problem', HTMLElement).hidden = true;
  updateButtons();
  // A disabled button loses the focus; the keyboard goes to the one that makes sense now, and back at the end.
  if (hadFocus) stop.focus();
  try {
    await work(engine, controller.signal);
  } catch (error) {
    // Stopping is no problem; anything else is, also when it happens while stopping.
    if (error !== controller.signal.reason) {
      const lost = error instanceof Error && lostNames.includes(error.name);
      if (lost) await unload();
      showProblem(error, lost ? 'The engine stopped' : 'That did not work', lost);
    }
  } finally {
    const stopHadFocus = document.activeElement === stop;
    activity = null;
    updateButtons();
    if (stopHadFocus && !start.disabled) start.focus();
  }
}

for (const { stop } of Object.values(buttons)) stop.addEventListener('click', () => activity?.controller.abort());

async function writeStory(engine: Engine, signal: AbortSignal): Promise<void> {
  const state = formState();
  story.dataset.state = 'running';
  story.setAttribute('aria-busy', 'true');
  storyEnd.textContent = '';
  const draftLength = storyDraftLength(state);
  announce(
    draftLength === 'auto'
      ? 'Generating; the engine chooses the draft tokens of each round.'
      : `Generating with ${draftLength} draft tokens per round.`,
  );
  startStory(story, state.prompt);
  // On a phone the story is below the screen: the buttons go to its top, and the story is under them.
  if (story.getBoundingClientRect().top > window.innerHeight * 0.7) buttons.story.start.scrollIntoView();
  numbers.start(draftLength === 'auto' ? maxDraftLength : draftLength);
  lastStory = null;
  try {
    const run = engine.generate(state.prompt, {
      maxNewTokens: state.maxNewTokens,
      draftLength,
      signal,
    });
    let position = 0;
    for await (const round of run) {
      position = appendRound(story, round, position);
      numbers.add(round.stats);
    }
    const result = await run.result;
    numbers.finish(result);
    lastStory = { state, result, alpha: acceptanceProbability(numbers.tally.points) };
    const reason = result.meta_info.finish_reason;
    story.dataset.state = reason.type === 'abort' ? 'stopped' : 'done';
    const rate = result.stats.acceptanceRate;
    const accepted = rate === null ? '' : `, ${percent(rate)} of the drafts accepted`;
    storyEnd.textContent = `${result.tokens.length} tokens${accepted}; ${finishText(reason)}.`;
  } catch (error) {
    story.dataset.state = 'failed';
    throw error;
  } finally {
    story.removeAttribute('aria-busy');
  }
}

form.addEventListener('submit', (event) => {
  event.preventDefault();
  writeUrl();
  entryWasUsed = true;
  void perform('story', writeStory);
});

promptBox.addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});

installRace({
  settings: formState,
  perform: (work) => perform('race', work),
  finished: (report) => {
    lastRace = report;
  },
});
const chatSettings = () => {
  const state = formState();
  return { draftLength: storyDraftLength(state), maxNewTokens: state.maxNewTokens };
};
const chat = installChat({ settings: chatSettings, perform: (work) => perform('chat', work) });
installBench({ perform: (work) => perform('bench', work) });

// Copying

const copyLink = byId('copy-link', HTMLButtonElement);
copyLink.addEventListener('click', () => {
  const link = new URL(stateSearch(formState(), true, choice), location.href);
  link.hash = '';
  void copyFrom(copyLink, link.href);
});

copyResult.addEventListener('click', () => {
  if (engine === null || lastStory === null) return;
  const { state, result, alpha } = lastStory;
  const race = lastRace !== null && sameState({ ...lastRace, auto: false }, state) ? lastRace : null;
  const { tokensPerSecond, acceptanceRate } = result.stats;
  const run = { tokensPerSecond, acceptanceRate, alpha, tokenCount: result.tokens.length };
  void copyFrom(copyResult, resultText(engine.info, state, run, race));
});

// Loading

async function unload(): Promise<void> {
  const old = engine;
  engine = null;
  updateButtons();
  await old?.dispose().catch(() => {}); // it is broken already; the reason is on the page
}

async function load(): Promise<void> {
  await unload();
  loading.abort();
  loading = new AbortController();
  const { signal } = loading;
  byId('back', HTMLButtonElement).hidden = sameChoice(choice, defaultChoice);
  const loaded = await loadEngine(engineOptions(choice, models.files()), signal);
  // Another choice was made meanwhile.
  if (signal.aborted) return void loaded?.dispose();
  engine = loaded;
  await chat.reset(engine);
  updateButtons();
  if (engine === null) return;
  byId('models-name', HTMLElement).textContent = pairName(engine.info);
  announce('The models are loaded.');
  if (parseState(location.search).run) form.requestSubmit();
}

/** Loads other models, which takes the place of whatever runs. */
async function choose(chosen: ModelChoice): Promise<void> {
  activity?.controller.abort();
  choice = chosen;
  models.show(chosen);
  byId('models-name', HTMLElement).textContent = pairOf(chosen)?.name ?? (chosen.target || 'files of this device');
  lastStory = null;
  lastRace = null;
  await load();
}

const models = installModelPanel((chosen) => {
  history.pushState(null, '', stateSearch(formState(), false, chosen));
  entryWasUsed = true;
  void choose(chosen);
});
byId('retry', HTMLButtonElement).addEventListener('click', () => void load());
byId('back', HTMLButtonElement).addEventListener('click', () => {
  history.pushState(null, '', stateSearch(formState()));
  void choose(defaultChoice);
});

if (repositoryUrl !== null) {
  const source = byId('source', HTMLElement);
  source.hidden = false;
  source.append(element('a', { href: repositoryUrl, textContent: 'Source code' }));
}

models.show(choice);
byId('models-name', HTMLElement).textContent = pairOf(choice)?.name ?? choice.target;
showState(urlState);
installTogether({ settings: formState, perform: (work) => perform('together', work) });
void load();
