/** The steps of a pass, in groups that are timed by themselves. */
import type { Step } from '../../src/gpu/kernel.ts';
import type { Forward } from '../../src/model/forward.ts';

/** Steps of one place: the same in every layer, or one before or behind the layers. */
export type StepGroup = { label: string; steps: Step[] };

/** All steps of a pass over few rows, logits included. Those of every layer are in turn, so that no cache holds their weights. */
export function stepGroups({ body, head, dispatchesPerLayer }: Forward): StepGroup[] {
  const firstCount = body.few.length % dispatchesPerLayer;
  const layers = body.few.slice(firstCount);
  const alone = (steps: readonly Step[]) => steps.map((step): StepGroup => ({ label: step.label, steps: [step] }));
  const places = Array.from({ length: dispatchesPerLayer }, (_, place): StepGroup => {
    const steps = layers.filter((_, i) => i % dispatchesPerLayer === place);
    return { label: `${place + 1} ${steps[0]?.label}`, steps };
  });
  return [...alone(body.few.slice(0, firstCount)), ...places, ...alone(head)];
}

/** Steps of one kernel together, wherever they stand. */
export function kernelGroups(steps: readonly Step[]): StepGroup[] {
  const labels = [...new Set(steps.map(({ label }) => label))];
  return labels.map((label) => ({ label, steps: steps.filter((step) => step.label === label) }));
}
