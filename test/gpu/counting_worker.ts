/** The package's worker with its loads counted. */
import './count_loads.ts';
import '../../src/worker.ts';
