/** Before the workflow tier: one Temporal server for all its files, since starting one takes longer than most tests. */
import '../tools/typescript.mjs';

export default async function setUp() {
  const { startSharedTemporal } = await import('./temporal.ts');
  await startSharedTemporal();
}
