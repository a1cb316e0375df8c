/** What each number on the page means, one click away from it. The full glossary is docs/metrics.md. */
import { windowRounds } from './tally.ts';

const definitions = {
  loadedBytes: [
    'Bytes of a model',
    'Bytes fetched so far of all files of the model’s folder, and their total once the server has told it. 1 MB = 1,000,000 bytes.',
  ],
  adapter: [
    'Adapter',
    'What the browser says about the GPU (or the CPU stand-in) that computes. Many browsers say little.',
  ],
  model: [
    'Target and draft model',
    'The target’s text is what you get; the draft proposes. Parameters: the numbers in the model’s tensors, a tied head counted once.',
  ],
  lossless: [
    'Lossless',
    '“exact”: on this device a row of the target’s forward pass has the same bits whether it is computed alone or among others, so the ' +
      'text equals plain decoding token for token. “near-ties”: it has not, and tokens may differ where two logits are closer than rounding. ' +
      'Found by a self-test at load.',
  ],
  loadTime: [
    'Load time',
    'Wall time from the call of createEngine to a ready engine: fetching, checks, upload, pipelines, self-test.',
  ],
  gpuBytes: ['GPU memory', 'Sum of all GPU buffers of the engine: weights, key–value caches, state, staging.'],
  draftLength: [
    'Draft tokens per round (k)',
    'How many tokens the draft model proposes before the target checks them in one pass. 0 decodes plainly, through the same pipeline.',
  ],
  maxNewTokens: [
    'Most new tokens',
    'Generation ends after this many emitted tokens, at an end-of-sequence token, or where the context is full.',
  ],
  tokensPerSecond: [
    'Tokens per second',
    `Tokens after the prompt’s pass, divided by the time of the rounds that made them. The chart shows the last ${windowRounds} rounds.`,
  ],
  tokensPerRound: [
    'Tokens per round',
    `Mean of (accepted drafts + 1) over the verify rounds so far; the chart shows the last ${windowRounds}. Between 1 and k + 1. ` +
      'None while decoding plainly.',
  ],
  acceptanceNow: [
    'Acceptance rate, now',
    `Accepted drafts / proposed drafts over the last ${windowRounds} verify rounds. The bonus token never counts as accepted.`,
  ],
  acceptanceSoFar: [
    'Acceptance rate, so far',
    'Accepted drafts / proposed drafts over all verify rounds of this request; at the end it is spec_accept_rate. Drafts after the first ' +
      'disagreement count as proposed.',
  ],
  tokenCount: [
    'Tokens',
    'Emitted tokens of this request, that of the prompt’s pass and an end-of-sequence token included; at the end, completion_tokens.',
  ],
  roundCount: [
    'Rounds',
    'Rounds after the prompt’s pass: each is one pass of the target, over k drafts and one token more.',
  ],
  histogram: [
    'Histogram of accepted drafts',
    'h[i] is the number of verify rounds with exactly i accepted drafts. Σ h = spec_verify_ct, Σ i·h[i] = spec_num_correct_drafts. Summed ' +
      'on this page from the rounds, and compared with meta_info when the request ends.',
  ],
  metaInfo: [
    'meta_info',
    'Metrics of one request under SGLang’s names. spec_accept_rate = correct / proposed; spec_accept_length = (completion_tokens − ' +
      'spec_plain_ct) / spec_verify_ct; e2e_latency in seconds. The spec_ keys are absent when no draft was proposed.',
  ],
  identical: [
    'Texts compared',
    'The token ids of every speculative run against those of the plain run of its pair. “identical”: all are equal. Otherwise the first ' +
      'token that differs is shown.',
  ],
  speedup: [
    'Measured speedup',
    'Tokens per second with k drafts / tokens per second with k = 0, same prompt, same engine, same pipeline; the median over the pairs. ' +
      'Below 1, speculation loses time.',
  ],
  predictedSpeedup: [
    'Predicted speedup',
    'S = E / (k·c + v(k+1)), where E = (1 − α^(k+1)) / (1 − α) is the expected number of tokens per round. It leaves out what the host costs.',
  ],
  alpha: [
    'α',
    'Agreed drafts / judged drafts. A round stops judging at the first disagreement, so α is higher than the acceptance rate, which ' +
      'divides by all proposed drafts. It is the probability in the formula for E.',
  ],
  draftCost: [
    'c',
    'Time of one draft step / time of one target step over a single row. Medians, measured on this device.',
  ],
  verifyCost: [
    'v(M)',
    'Time of a target pass over M rows / over one row. Checking k drafts takes M = k + 1 rows. Medians, measured on this device.',
  ],
  spread: ['±', 'Median distance of the timed runs from their median, relative to it: half of the runs lie within.'],
  dispatches: [
    'Dispatches',
    'Compute dispatches of a pass over up to 8 rows; per round, those of k draft steps, one target pass and the decision. Small models are bound by them.',
  ],
  pooledRate: [
    'Acceptance rate, pooled',
    'Accepted drafts / proposed drafts of all stories together: the sums of the table’s columns. The engine’s gauge spec_accept_rate is the same over a window of 40 rounds.',
  ],
  pooledLength: [
    'Tokens per round, pooled',
    '(Accepted drafts + verify rounds) / verify rounds of all stories together. The engine’s gauge spec_accept_length is the same over a window of 40 rounds.',
  ],
  sharedRounds: [
    'Shared rounds',
    'Rounds of the engine after the prompts’ passes. Each is one pass of the target for all stories that still run.',
  ],
  togetherSpeed: ['Tokens per second, all', 'Tokens of all stories since the start, divided by the time since then.'],
  verdict: [
    'Does it pay?',
    'Yes when the best k is faster than k = 0 by more than the spread of both. It holds for this adapter, this pair and these prompts.',
  ],
} satisfies Record<string, [string, string]>;

export type DefinitionKey = keyof typeof definitions;

let lastId = 0;

/** A button that opens the definition of a number; append it next to the number's name. */
export function definitionButton(key: DefinitionKey): DocumentFragment {
  const [term, text] = definitions[key];
  const id = `definition-${++lastId}`;
  const button = document.createElement('button');
  button.type = 'button';
  button.className = 'define';
  button.textContent = '?';
  button.setAttribute('aria-label', `Definition: ${term}`);
  button.setAttribute('popovertarget', id);
  const popover = document.createElement('div');
  popover.id = id;
  popover.className = 'definition';
  popover.setAttribute('popover', 'auto');
  const strong = document.createElement('strong');
  strong.textContent = term;
  const paragraph = document.createElement('p');
  paragraph.textContent = text;
  popover.append(strong, paragraph);
  popover.addEventListener('toggle', (event) => {
    if ((event as ToggleEvent).newState === 'open') placeBeside(popover, button);
  });
  const fragment = document.createDocumentFragment();
  fragment.append(button, popover);
  return fragment;
}

/** Fills every `data-define` placeholder of the page. */
export function installDefinitions(root: ParentNode): void {
  for (const place of root.querySelectorAll<HTMLElement>('[data-define]')) {
    const key = place.dataset.define ?? '';
    if (!Object.hasOwn(definitions, key)) throw new Error(`Expected data-define to name a definition, got “${key}”.`);
    place.append(definitionButton(key as DefinitionKey));
  }
}

/** Below the button, or above it where the window ends; CSS anchors would do this, but not in every browser with WebGPU. */
function placeBeside(popover: HTMLElement, button: HTMLElement): void {
  const margin = 8;
  const anchor = button.getBoundingClientRect();
  const { width, height } = popover.getBoundingClientRect();
  const left = Math.max(margin, Math.min(anchor.left, document.documentElement.clientWidth - width - margin));
  const below = anchor.bottom + margin;
  const top = below + height <= window.innerHeight - margin ? below : Math.max(margin, anchor.top - height - margin);
  popover.style.left = `${left}px`;
  popover.style.top = `${top}px`;
}
