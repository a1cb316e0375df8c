/** The residual stream: a row per row of the pass, as `shaders/lib/stream.wgsl` describes it. */

export type Stream = {
  buffer: GPUBuffer;
  hiddenSize: number;
};

/** Fewest hidden values to a sum of squares. */
export const leastSquareGroup = 4;

/** Floats from one row of the stream to the next. */
export const streamRowSize = (hiddenSize: number): number =>
  2 * hiddenSize + 4 + 4 * Math.ceil(hiddenSize / leastSquareGroup / 4);

/** A norm whose output a matmul reads without it ever being written. */
export type StreamNorm = {
  /** Hidden values to each sum of squares: as many as a workgroup makes of them. */
  squareGroup: number;
  epsilon: number;
};
