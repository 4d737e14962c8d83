/** Compiles the simulated VMM before any test waits for it: without a build cache that takes longer than a test may. */
import { ensureSimulatedVmm } from './build.js';

console.log(await ensureSimulatedVmm());
