/** Rotary positions (Su et al. 2021): how config.json describes them, and the table that the kernels read. */
import type { ModelFormatError, UnsupportedModelError } from '../errors.ts';

/** How the inverse frequencies are changed for long contexts. */
export type RopeScaling =
  | { type: 'none' }
  /** Positions divided by `factor` (Chen et al. 2023). */
  | { type: 'linear'; factor: number }
  /** Llama 3.1: long wavelengths divided by `factor`, short ones kept, those between blended. */
  | { type: 'llama3'; factor: number; lowFreqFactor: number; highFreqFactor: number; originalContextLength: number }
  /** LongRoPE (Ding et al. 2024) within the original context: a divisor per pair, cos and sin times `attentionFactor`. */
  | { type: 'longrope'; factors: number[]; attentionFactor: number };

export type RopeConfig = {
  theta: number;
  /** Dimensions of a head that turn, the first ones; the others pass. Even. */
  rotaryDim: number;
  scaling: RopeScaling;
};

/** 1 / wavelength of each pair, in radians per position: (rotaryDim / 2,) */
export function inverseFrequencies({ theta, rotaryDim, scaling }: RopeConfig): number[] {
  return Array.from({ length: rotaryDim / 2 }, (_, pair) => {
    const frequency = theta ** ((-2 * pair) / rotaryDim);
    return scaledFrequency(frequency, pair, scaling);
  });
}

function scaledFrequency(frequency: number, pair: number, scaling: RopeScaling): number {
  switch (scaling.type) {
    case 'none':
      return frequency;
    case 'linear':
      return frequency / scaling.factor;
    case 'longrope':
      return frequency / (scaling.factors[pair] as number);
    case 'llama3': {
      const { factor, lowFreqFactor, highFreqFactor, originalContextLength } = scaling;
      const turns = (originalContextLength * frequency) / (2 * Math.PI); // within the original context
      if (turns < lowFreqFactor) return frequency / factor;
      if (turns > highFreqFactor) return frequency;
      const share = (turns - lowFreqFactor) / (highFreqFactor - lowFreqFactor);
      return (1 - share) * (frequency / factor) + share * frequency;
    }
  }
}

/** cos and sin of every (position, pair), in float64 on the host: (positions, rotaryDim / 2) of (cos, sin) f32. */
export function rotationTable(positions: number, rope: RopeConfig): Float32Array<ArrayBuffer> {
  const frequencies = inverseFrequencies(rope);
  const scale = rope.scaling.type === 'longrope' ? rope.scaling.attentionFactor : 1;
  const table = new Float32Array(positions * frequencies.length * 2);
  let index = 0;
  for (let position = 0; position < positions; position++) {
    for (const frequency of frequencies) {
      table[index++] = Math.cos(position * frequency) * scale;
      table[index++] = Math.sin(position * frequency) * scale;
    }
  }
  return table;
}

type Json = Record<string, unknown>;

/** What rope parsing needs of the config reader. */
export type RopeReader = {
  json: Json;
  headDim: number;
  maxContextLength: number;
  defaultTheta: number;
  /** Base of the layers with a window, where they have one of their own. */
  defaultLocalTheta: number | null;
  /** @throws ModelFormatError */
  formatError: (expected: string, got: unknown) => ModelFormatError;
  /** @throws UnsupportedModelError */
  unsupported: (option: string, got: unknown, supported: string) => UnsupportedModelError;
};

/**
 * The rotation of full-attention layers, the one of sliding-window layers, and the context that they are good for.
 * `rope_parameters` is the newer name of `rope_scaling`, holds the theta too, and may hold one object per layer type.
 */
export function parseRopes(reader: RopeReader): { full: RopeConfig; sliding: RopeConfig; maxContextLength: number } {
  const { json, defaultTheta, defaultLocalTheta } = reader;
  const theta = positive(reader, json, 'rope_theta', defaultTheta);
  const [scaling, parameters] = ['rope_scaling', 'rope_parameters'].map((key) => {
    const value = json[key] ?? {};
    if (!isRecord(value)) throw reader.formatError(`${key} must be an object or null`, value);
    return value;
  }) as [Json, Json];
  const { full_attention: fullType, sliding_attention: slidingType } = parameters;
  const isByLayerType = isRecord(fullType) || isRecord(slidingType);
  const unscaled = isByLayerType ? recordOr(fullType) : Object.keys(scaling).length === 0 ? parameters : {};
  const full = parseRope(reader, { ...unscaled, ...scaling }, theta);
  const { maxContextLength } = full;
  if (!isByLayerType && defaultLocalTheta === null) return { full: full.rope, sliding: full.rope, maxContextLength };
  // Gemma 3 turns its windowed layers faster, unscaled.
  const localTheta =
    defaultLocalTheta === null ? theta : positive(reader, json, 'rope_local_base_freq', defaultLocalTheta);
  const sliding = parseRope(reader, recordOr(slidingType), localTheta);
  return { full: full.rope, sliding: sliding.rope, maxContextLength };
}

function parseRope(
  reader: RopeReader,
  parameters: Json,
  defaultTheta: number,
): { rope: RopeConfig; maxContextLength: number } {
  const { json, headDim } = reader;
  const holder = isNullish(parameters.partial_rotary_factor) ? json : parameters;
  const partial = positive(reader, holder, 'partial_rotary_factor', 1);
  const rotaryDim = Math.floor(headDim * partial);
  if (rotaryDim < 2 || rotaryDim > headDim || rotaryDim % 2 !== 0) {
    throw reader.unsupported('partial_rotary_factor', partial, `an even part of head_dim (${headDim})`);
  }
  const theta = positive(reader, parameters, 'rope_theta', defaultTheta);
  const { scaling, maxContextLength } = parseScaling(reader, parameters, rotaryDim);
  return { rope: { theta, rotaryDim, scaling }, maxContextLength };
}

function parseScaling(
  reader: RopeReader,
  parameters: Json,
  rotaryDim: number,
): { scaling: RopeScaling; maxContextLength: number } {
  const { json, maxContextLength } = reader;
  // `type` is the older name of `rope_type`.
  const type = parameters.rope_type ?? parameters.type ?? 'default';
  const number = (key: string, fallback?: number) => positive(reader, parameters, key, fallback);
  const originalContextLength = () => {
    const holder = isNullish(json.original_max_position_embeddings) ? parameters : json;
    return positive(reader, holder, 'original_max_position_embeddings');
  };
  switch (type) {
    case 'default':
      if (number('factor', 1) !== 1)
        throw reader.unsupported('rope_scaling', parameters, 'a factor together with its rope_type');
      return { scaling: { type: 'none' }, maxContextLength };
    case 'linear':
      return { scaling: { type: 'linear', factor: number('factor') }, maxContextLength };
    case 'llama3': {
      const scaling: RopeScaling = {
        type: 'llama3',
        factor: number('factor'),
        lowFreqFactor: number('low_freq_factor'),
        highFreqFactor: number('high_freq_factor'),
        originalContextLength: originalContextLength(),
      };
      if (scaling.highFreqFactor <= scaling.lowFreqFactor) {
        throw reader.formatError('high_freq_factor must be above low_freq_factor', scaling.highFreqFactor);
      }
      return { scaling, maxContextLength };
    }
    case 'longrope':
    case 'su': {
      const original = originalContextLength();
      const factors = parameters.short_factor;
      const isList = Array.isArray(factors) && factors.every((x) => typeof x === 'number' && x > 0 && x < Infinity);
      if (!isList || factors.length !== rotaryDim / 2) {
        throw reader.formatError(`short_factor must be a list of ${rotaryDim / 2} numbers above 0`, factors);
      }
      const factor = number('factor', maxContextLength / original);
      const natural = factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(original));
      return {
        scaling: { type: 'longrope', factors, attentionFactor: number('attention_factor', natural) },
        // Beyond it other factors hold, for the whole text at once: its start would have to be computed again.
        maxContextLength: Math.min(maxContextLength, original),
      };
    }
    default:
      throw reader.unsupported('rope_type', type, '"default", "linear", "llama3" and "longrope"');
  }
}

function positive(reader: RopeReader, holder: Json, key: string, fallback?: number): number {
  const value = holder[key] ?? fallback;
  if (typeof value !== 'number' || !Number.isFinite(value) || value <= 0) {
    throw reader.formatError(`${key} must be a number above 0`, value);
  }
  return value;
}

const isNullish = (value: unknown): value is null | undefined => value === null || value === undefined;
const isRecord = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const recordOr = (value: unknown): Json => (isRecord(value) ? value : {});
