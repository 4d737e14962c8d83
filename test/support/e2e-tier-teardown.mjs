/** After the end-to-end tier. Jest runs set-up and teardown in one process, so e2e-tier.ts remembers what it started. */
export default async function tearDown() {
  const { stopSharedPlatform } = await import('./e2e-tier.ts');
  await stopSharedPlatform();
}
