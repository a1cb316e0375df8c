/** Which of two kinds of kernels with the same results is the faster one on this device. */
import { createStorage, createStorageFrom, withTemporaries } from '../gpu/buffers.ts';
import type { Gpu } from '../gpu/device.ts';
import { encodeStep, type Step } from '../gpu/kernel.ts';
import { gpuIdle, submitPass } from '../gpu/submit.ts';
import { fewRowsMatmuls, type KernelKind } from '../kernels/kernel_kind.ts';
import type { PackedMatrix } from '../kernels/packed.ts';
import { rowsSize } from '../kernels/rows.ts';
import type { Weights } from './weights.ts';

/** Rows of the passes that are timed: a decode step, and a verify pass. */
const timedRows = [1, 4] as const;
/** A sample repeats its kernel in one submit until it takes this long: what a clock of 1 ms shows. */
const sampleMs = 10;
const maxRepeats = 512;
const sampleCount = 3;

/**
 * The kind whose matmul of few rows is faster, by the least times of a few samples in turn; the one for GPUs unless the other
 * is clearly faster. It takes some 100 ms, so it is asked at each load instead of being remembered.
 */
export async function fasterKernels(gpu: Gpu, weight: PackedMatrix): Promise<KernelKind> {
  return withTemporaries(gpu, async () => {
    const mostRows = Math.max(...timedRows);
    const words = new Uint32Array(rowsSize(mostRows) / 4);
    const rows = createStorageFrom(gpu, 'tuning rows', words);
    const input = createStorage(gpu, 'tuning input', mostRows * weight.inputSize * 4);
    const output = createStorage(gpu, 'tuning output', mostRows * weight.outputSize * 4);
    const unused = createStorage(gpu, 'tuning', 16);
    const buffers = { rows, bias: unused, input, nextNorm: unused, output };
    const options = { hasBias: false, addOutput: false, variants: timedRows };
    const [workgroup, lane] = await Promise.all([
      fewRowsMatmuls.workgroup.step(gpu, weight, buffers, options),
      fewRowsMatmuls.lane.step(gpu, weight, buffers, options),
    ]);
    const time = async (step: Step, rowCount: number, repeats: number): Promise<number> => {
      words[0] = rowCount;
      gpu.device.queue.writeBuffer(rows, 0, words);
      await gpuIdle(gpu);
      const start = performance.now();
      submitPass(gpu, 'tuning', (pass) => {
        for (let i = 0; i < repeats; i++) encodeStep(pass, step, { rows: rowCount, blocks: 0 });
      });
      await gpuIdle(gpu);
      return (performance.now() - start) / repeats;
    };
    let ratio = 1;
    for (const rowCount of timedRows) {
      const repeats: number[] = [];
      for (const step of [workgroup, lane]) {
        await time(step, rowCount, 1); // the first run of a pipeline may still compile
        let count = 1;
        while (count < maxRepeats && (await time(step, rowCount, count)) * count < sampleMs) count *= 2;
        repeats.push(count);
      }
      const least = [Infinity, Infinity] as [number, number];
      for (let sample = 0; sample < sampleCount; sample++) {
        for (const [i, step] of [workgroup, lane].entries()) {
          least[i] = Math.min(least[i] as number, await time(step, rowCount, repeats[i] as number));
        }
      }
      ratio *= least[1] / least[0];
    }
    // Of both row counts, by the geometric mean.
    return Math.sqrt(ratio) < clearly ? 'lane' : 'workgroup';
  });
}

/** What most of a pass is like. */
export const typicalMatrix = ({ layers }: Weights): PackedMatrix => layers[0]?.gateUp.weight[0]?.matrix as PackedMatrix;

/** Time against the other's from which a kernel counts as faster. */
const clearly = 0.8;
