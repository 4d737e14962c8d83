import { afterAll, beforeAll, describe, expect, it, jest } from '@jest/globals';
import type { SandboxDto } from '../../api/sandbox/sandbox.dto.js';
import { Api, type Page } from './e2e-api.js';
import { LeakCheck, type LeakCheckOptions } from './e2e-leaks.js';
import { sharedTier, type Tier } from './e2e-tier.js';

/** The platform as a file of the tier sees it. */
export interface PlatformUnderTest {
  tier: Tier;
  api: Api;
  /** With a key of another team. */
  stranger: Api;
  /** With no key. */
  nobody: Api;
  /** Open between the first and the last test of the file. */
  leaks(): LeakCheck;
  /** What a file has made on the machine itself is removed before anybody looks for leaks. */
  atEnd(remove: () => Promise<unknown>): void;
}

/** Far above what emulation on a busy machine needs; no test is judged by its time. */
const TEST_LIMIT_MS = 180_000;

/**
 * A file of the tier. Its last test destroys what the others have left running and then looks for anything that was
 * not there before the first: processes, namespaces, links, rules, devices, mounts, sockets, files, workflows, rows.
 */
export function describeOnPlatform(
  name: string,
  body: (platform: PlatformUnderTest) => void,
  options: LeakCheckOptions = { restarts: false },
): void {
  jest.setTimeout(TEST_LIMIT_MS);
  const tier = sharedTier();
  const [api, stranger] = [new Api(tier.apiUrl, tier.apiKey), new Api(tier.apiUrl, tier.otherKey)];
  const removals: (() => Promise<unknown>)[] = [];
  let leaks: LeakCheck | undefined;

  describe(name, () => {
    beforeAll(async () => {
      leaks = await LeakCheck.open(tier, options);
    }, TEST_LIMIT_MS);

    afterAll(() => leaks?.close());

    body({
      ...{ tier, api, stranger, nobody: new Api(tier.apiUrl) },
      leaks: () => {
        if (!leaks) throw new Error('the file has not begun');
        return leaks;
      },
      atEnd: (remove) => void removals.push(remove),
    });

    it('leaves nothing behind once its sandboxes are destroyed', async () => {
      for (const remove of removals.splice(0).reverse()) await remove();
      await Promise.all([api, stranger].map(destroyAll));
      expect((await leaks?.difference())?.report).toBe('');
    });
  });
}

async function destroyAll(api: Api): Promise<void> {
  const { items } = await api.get<Page<SandboxDto>>('/v1/sandboxes?limit=200');
  await Promise.all(items.map(({ id }) => api.destroy(id)));
}
