/** Before the tier of the runbook: the shared platform of the end-to-end tier, told not to do by itself what pages do. */
import '../tools/typescript.mjs';

export default async function setUp() {
  // What a page promises within minutes shall happen by the command of the page, and not before a test has looked.
  process.env.TORPOR_RECONCILE_SECONDS ??= '3600';
  process.env.TORPOR_ORPHAN_GRACE_SECONDS ??= '2';
  const { startSharedPlatform } = await import('../support/e2e-tier.ts');
  await startSharedPlatform();
}
