/** Drafts looked up in the text against none, through the whole engine, where texts repeat themselves. */
import { firstDifference, median } from '../../demo/measure.ts';
import { createEngineOn } from '../../src/engine_core.ts';
import { openGpu } from '../../src/gpu/device.ts';
import type { ModelSource } from '../../src/model/source.ts';
import { parseEngineOptions } from '../../src/options.ts';
import type { MetaInfo } from '../../src/types.ts';
import { atLeast, type Row } from './asked.ts';
import { timingOf } from './timing.ts';

type DraftLength = 3 | 7 | 'auto';
const draftLengths: readonly DraftLength[] = [3, 7, 'auto'];

/** After these the target's greedy continuation repeats itself, or them. A model so small does not quote a text at will. */
const repetitive: readonly string[] = [
  'Mom sang a song. "Row, row, row the boat, down the river we go. The sun is high, the birds fly by, and home we go." '.repeat(
    5,
  ),
  '"Knock, knock," said the rabbit. "Who is there?" said the bear. "It is me," said the rabbit. "Come in," said the bear. '.repeat(
    5,
  ),
  'Tim has a red hat. Tim has a blue hat. Tim has a green hat. Tim puts the hats in the box. '.repeat(10),
  'One dog ran. Two dogs ran. Three dogs ran. Four dogs ran. Five dogs ran. '.repeat(5),
].map((text) => text.trim());
const tokens = 128;

export type NgramFigures = {
  draftLength: DraftLength;
  /** Median over (prompt, run) of a token's time without drafts / with them. */
  speedup: number;
  spread: number;
  /** Accepted / proposed. */
  acceptRate: number;
  tokensPerRound: number;
};

export type NgramReport = {
  prompts: number;
  tokens: number;
  plainMs: number;
  /** [k] = pass over k + 1 rows / over one, as `auto` begins with. */
  v: number[];
  figures: NgramFigures[];
};

/** @throws Error, and so without a time, where the tokens of a run are not those without drafts. */
export async function benchNgram(source: ModelSource, { repeats }: { repeats: number }): Promise<NgramReport> {
  const parsed = parseEngineOptions({ target: source.url, draft: { method: 'ngram' } });
  const engine = await createEngineOn(await openGpu(), source, null, parsed);
  try {
    const plainMs: number[] = [];
    const speedups = draftLengths.map((): number[] => []);
    const metas = draftLengths.map((): MetaInfo[] => []);
    for (let repeat = -1; repeat < repeats; repeat++) {
      // Those before the first are warm-up.
      for (const prompt of repeat < 0 ? repetitive.slice(0, 1) : repetitive) {
        const generate = (draftLength: DraftLength | 0) =>
          engine.generate(prompt, { draftLength, maxNewTokens: tokens, ignoreEos: true, temperature: 0 }).result;
        const plain = await generate(0);
        const msOf = ({ stats }: typeof plain) => stats.timePerOutputTokenMs as number;
        if (repeat >= 0) plainMs.push(msOf(plain));
        for (const [i, draftLength] of draftLengths.entries()) {
          const drafted = await generate(draftLength);
          const difference = firstDifference(plain.tokens, drafted.tokens);
          if (difference !== null) {
            throw new Error(
              `k = ${draftLength}: token ${difference} is another than without drafts. No time is printed.`,
            );
          }
          if (repeat < 0) continue;
          speedups[i]?.push(msOf(plain) / msOf(drafted));
          metas[i]?.push(drafted.meta_info);
        }
      }
      console.log(`lookup: ${repeat + 1} of ${repeats} runs, tokens equal`);
    }
    const figures = draftLengths.map((draftLength, i): NgramFigures => {
      const { ms: speedup, spread } = timingOf(speedups[i] ?? []);
      const sum = (key: keyof MetaInfo) =>
        (metas[i] ?? []).reduce((total, meta) => total + ((meta[key] ?? 0) as number), 0);
      return {
        draftLength,
        speedup,
        spread,
        acceptRate: sum('spec_num_correct_drafts') / sum('spec_num_proposed_drafts'),
        tokensPerRound: sum('completion_tokens') / (sum('spec_verify_ct') + sum('spec_plain_ct')),
      };
    });
    const { costs } = engine.info;
    return { prompts: repetitive.length, tokens, plainMs: median(plainMs), v: costs?.v ?? [], figures };
  } finally {
    await engine.dispose();
  }
}

export const ngramRows = ({ figures }: NgramReport): Row[] =>
  figures.map(({ draftLength, speedup, spread, acceptRate, tokensPerRound }) =>
    atLeast(1.4, {
      what: `Lookup, k = ${draftLength}: speed / that of plain decoding`,
      value: speedup,
      spread,
      fastest: null,
      detail: `${(100 * acceptRate).toFixed(0)} % of drafts accepted, ${tokensPerRound.toFixed(2)} tokens a round`,
    }),
  );
