/** What an engine allocates beside its weights; `checkModel` counts it by the same calls. */
import { InvalidOptionError, UnsupportedModelError } from './errors.ts';
import type { Gpu } from './gpu/device.ts';
import { createStagingRing, type StagingRing } from './gpu/readback.ts';
import type { KernelKind } from './kernels/kernel_kind.ts';
import type { PackedMatrix } from './kernels/packed.ts';
import { createForward, type Forward } from './model/forward.ts';
import { pagesFor } from './model/kv_cache.ts';
import type { OpenedModel } from './model/opened_model.ts';
import type { Weights } from './model/weights.ts';
import type { ParsedEngineOptions } from './options.ts';
import { MAX_STOP_TOKENS } from './sampling_options.ts';
import { readbackBytes } from './speculative/batch.ts';
import { createRoundPlan, type RoundPlan, roundRows } from './speculative/round.ts';
import { createSequences, type Sequences } from './speculative/sequence.ts';
import type { EngineInfo } from './types.ts';

/** The default `contextLength` never exceeds this: the KV cache grows with it. */
const defaultContextLimit = 4096;
/** Rows of one prefill pass. */
const prefillRows = 64;

export type EngineParts = {
  forwards: Forward[];
  sequences: Sequences;
  plan: RoundPlan;
  ring: StagingRing;
  /** Pages of the caches, which the slots share. */
  pageCount: number;
};

/** @param models target and, where there is one, draft */
export async function createParts(
  gpu: Gpu,
  models: readonly Pick<OpenedModel, 'config'>[],
  weights: readonly Weights[],
  {
    contextLength,
    paddedRows,
    kernelKind,
    ngram,
    headTokens,
    roundsInFlight,
    maxRunningRequests: slots,
  }: { contextLength: number; paddedRows: boolean; kernelKind: KernelKind } & Pick<
    ParsedEngineOptions,
    'ngram' | 'headTokens' | 'roundsInFlight' | 'maxRunningRequests'
  >,
): Promise<EngineParts> {
  // One request can fill the context; several share what it would take.
  const pageCount = pagesFor(contextLength);
  const forwards = await Promise.all(
    models.map(({ config }, i) =>
      createForward(gpu, i === 0 ? 'target' : 'draft', config, weights[i] as Weights, {
        slots,
        pageCount,
        contextLength,
        rowCapacity: prefillRows,
        // A draft pass is of one row with logits for each sequence.
        outputCapacity: i === 0 ? roundRows(slots) : slots,
        headTokens: i === 0 ? null : headTokens,
        paddedRows,
        kernelKind,
      }),
    ),
  );
  const [target, draft = null] = forwards as [Forward, Forward?];
  const sequences = createSequences(gpu, { slots, contextLength, vocabSize: target.vocabSize });
  const plan = await createRoundPlan(gpu, { target, draft }, { ngram, sequences });
  const ring = createStagingRing(gpu, 'records', roundsInFlight + 1, readbackBytes(slots));
  return { forwards, sequences, plan, ring, pageCount };
}

export function longestContext(models: readonly OpenedModel[]): number {
  return Math.min(...models.map(({ config }) => config.maxContextLength));
}

export function contextLengthOf(models: readonly OpenedModel[], asked: number | null): number {
  const longest = longestContext(models);
  if (asked === null) return Math.min(longest, defaultContextLimit);
  if (asked <= longest) return asked;
  throw new InvalidOptionError(
    `Expected \`contextLength\` to be at most ${longest} (max_position_embeddings of ${models.map(({ url }) => url).join(', ')}), ` +
      `got ${asked}. Lower it.`,
  );
}

export function checkStopTokens({ url, config }: OpenedModel): void {
  if (config.eosTokenIds.length <= MAX_STOP_TOKENS) return;
  throw new UnsupportedModelError(
    `Expected at most ${MAX_STOP_TOKENS} eos_token_id entries in ${url}, got ${config.eosTokenIds.length}.`,
  );
}

export function commonFormat(matrices: readonly PackedMatrix[]): EngineInfo['dtype'] {
  const [format, ...others] = new Set(matrices.map((matrix) => matrix.format));
  return format === undefined || others.length > 0 ? 'mixed' : format;
}
