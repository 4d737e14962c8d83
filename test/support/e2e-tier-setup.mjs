/** Before the end-to-end tier: one platform with a warm template for all its files, since making them takes longer than most tests. */
import '../tools/typescript.mjs';

export default async function setUp() {
  const { startSharedPlatform } = await import('./e2e-tier.ts');
  await startSharedPlatform();
}
