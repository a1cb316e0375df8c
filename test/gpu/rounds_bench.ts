/** What the specs of reject.wgsl and residual.wgsl share: random rounds of many sequences, on the GPU and for the twins. */
import type { RoundDistributions, RoundShape } from '../../src/kernels/reject.ts';
import { noToken } from '../reference/argmax.ts';
import { createRandom } from '../reference/random.ts';
import type { WarpedRow } from '../reference/reject.ts';
import { threshold } from '../reference/threshold.ts';
import { lowest, noWarping } from '../reference/warp.ts';
import { floats, rounded } from './kernel_bench.ts';
import { newSequence, type Sequence } from './sampling_bench.ts';

export type RandomRounds = {
  sequences: Sequence[];
  /** (sequences, K + 1) and (sequences, K), K the longest round. */
  targetRows: WarpedRow[][];
  draftRows: WarpedRow[][];
  shape: RoundShape;
};

const longest = 4;

/** Drafts of all kinds: likely, unlikely, impossible on one side, beyond a vocabulary, and NO_TOKEN. */
export function randomRounds(
  count: number,
  { targetVocabSize, draftVocabSize }: { targetVocabSize: number; draftVocabSize: number },
): RandomRounds {
  const random = createRandom(targetVocabSize + 7 * draftVocabSize);
  const smaller = Math.min(targetVocabSize, draftVocabSize);
  const rowOf = (vocabSize: number, near: Float64Array | null): WarpedRow => {
    const warped = rounded(random.normals(vocabSize, 2));
    // A draft near its target: most tokens within a factor of two.
    if (near !== null) for (let id = 0; id < smaller; id++) warped[id] = Math.fround(near[id]! + random.normal() / 3);
    warped[random.integer(vocabSize)] = Number.NaN;
    warped[random.integer(vocabSize)] = lowest;
    const topK = random.uniform() < 0.5 ? 0 : 1 + random.integer(vocabSize);
    return { warped: rounded(warped), distribution: threshold(warped, { ...noWarping, topK }) };
  };
  const targetRows = Array.from({ length: count }, () =>
    Array.from({ length: longest + 1 }, () => rowOf(targetVocabSize, null)),
  );
  const draftRows = targetRows.map((rows) =>
    rows.slice(0, longest).map(({ warped, distribution }): WarpedRow => {
      // Now and then the very same row: no residual at all.
      if (draftVocabSize === targetVocabSize && random.uniform() < 0.1) return { warped, distribution };
      return rowOf(draftVocabSize, random.uniform() < 0.7 ? warped : null);
    }),
  );
  const likely = ({ warped }: WarpedRow) => {
    const ids = Array.from({ length: 8 }, () => random.integer(draftVocabSize));
    return ids.reduce((best, id) => (warped[id]! > warped[best]! ? id : best));
  };
  const sequences = draftRows.map((rows, i) => {
    const drafts = rows
      .slice(0, random.integer(longest + 1))
      .map((row) =>
        random.uniform() < 0.03 ? noToken : random.uniform() < 0.7 ? likely(row) : random.integer(draftVocabSize),
      );
    const seed = [random.integer(2 ** 32), random.integer(2 ** 32)] as const;
    const places = { firstRow: i * (longest + 1), firstDraftRow: i * longest };
    return newSequence({ seed, drafts, length: 5 + random.integer(1000), ...places });
  });
  return { sequences, targetRows, draftRows, shape: { slots: count, targetVocabSize, draftVocabSize } };
}

export function uploadRounds({ targetRows, draftRows }: RandomRounds): RoundDistributions {
  const warpedOf = (rows: WarpedRow[]) => {
    const vocabSize = rows[0]!.warped.length;
    const flat = new Float32Array(rows.length * vocabSize);
    rows.forEach(({ warped }, r) => {
      flat.set(warped, r * vocabSize);
    });
    return floats(flat);
  };
  const distributionsOf = (rows: WarpedRow[]) =>
    floats(rows.flatMap(({ distribution: { max, threshold: least, sum } }) => [max, least, sum, 0]));
  return {
    targetWarped: warpedOf(targetRows.flat()),
    targetDistributions: distributionsOf(targetRows.flat()),
    draftWarped: warpedOf(draftRows.flat()),
    draftDistributions: distributionsOf(draftRows.flat()),
  };
}
