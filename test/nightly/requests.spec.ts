import { describeJoint, jointCells } from '../gpu/joint_distribution.ts';
import { describeSeededGrid } from '../gpu/seeded_grid.ts';

describeSeededGrid({ requestCount: 30, draftLengths: [1, 2, 3, 4, 5, 6, 7], maxNewTokens: 24 });
describeJoint({ cells: jointCells, runCount: 1000 });
