import { describeEqualityGrid } from '../gpu/equality_grid.ts';
import { prompts } from '../reference/prompts.ts';

describeEqualityGrid({
  promptIndices: [...prompts.keys()],
  draftLengths: [1, 2, 3, 4, 5, 6, 7],
  variants: [
    { roundsInFlight: 2, kernelKind: 'workgroup' },
    { roundsInFlight: 3, kernelKind: 'lane' },
  ],
  maxNewTokens: 32,
});
