/** After the workflow tier. Jest runs set-up and teardown in one process, so temporal.ts remembers what it started. */
export default async function tearDown() {
  const { stopSharedTemporal } = await import('./temporal.ts');
  await stopSharedTemporal();
}
