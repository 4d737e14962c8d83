import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { describeWhen } from '../support/needs.js';
import { CLOUD_HYPERVISOR, labEnvironment } from './lab-environment.js';
import { LabRig } from './lab-rig.js';
import { OutsideServers } from './outside-servers.js';
import type { Lab } from './lab.js';

/** Every process and every guest starts on emulated processors, which takes a real machine seconds. */
const UP_MS = 30 * 60_000;
const DEMO_MS = 30 * 60_000;
const BOOT_MS = 15 * 60_000;
const MEMORY_MB = 5_120;
/** What `torpor setup` made outside was taken in; nothing in the lab could build it. */
const TAKEN_IN = { TORPOR_IMAGES: '/var/cache/torpor/images.json' };

/** One line of `--json`: a step, a claim, or the end. */
interface Told {
  claim?: string;
  holds?: boolean;
  found?: string;
  ok?: boolean;
  claims?: number;
}

describeWhen(
  labEnvironment().cloudHypervisor !== undefined,
  CLOUD_HYPERVISOR,
  'torpor demo on a production host',
  () => {
    const ended = new AbortController();
    let servers: OutsideServers;
    let rig: LabRig;
    let lab: Lab;
    let up: Promise<unknown> | undefined;

    beforeAll(async () => {
      servers = await OutsideServers.start();
      rig = await LabRig.open();
      lab = await rig.start('demo', { memoryMb: MEMORY_MB });
    }, BOOT_MS);
    afterAll(async () => {
      ended.abort();
      await up?.catch(() => undefined);
      await rig?.close();
      await servers?.stop();
    }, BOOT_MS);

    it(
      'brings its own processes up in the lab, with Postgres and Temporal outside',
      async () => {
        const env = { ...TAKEN_IN, DATABASE_URL: servers.databaseUrl, TEMPORAL_ADDRESS: servers.temporalAddress };
        let said = '';
        const ready = new Promise<'ready'>((resolve) => {
          up = lab.run(['node', 'dist/cli/main.js', 'up', '--no-warm', '--json'], {
            env,
            signal: ended.signal,
            onOutput: (bytes) => {
              said += Buffer.from(bytes).toString();
              if (said.includes('"ready":true')) resolve('ready');
            },
          });
        });
        up?.catch(() => undefined);
        const first = await Promise.race([ready, up?.then(() => said)]);
        expect(first).toBe('ready');
      },
      UP_MS,
    );

    it(
      'does the main job on Cloud Hypervisor, snapshot devices and namespaces, and every claim holds',
      async () => {
        const argv = ['node', 'dist/cli/main.js', 'demo', '--json'];
        const { exitCode, stdout, stderr } = await lab.run(argv, { env: TAKEN_IN, timeoutMs: DEMO_MS - 60_000 });
        const told = stdout
          .split('\n')
          .filter((line) => line.startsWith('{'))
          .map((line) => JSON.parse(line) as Told);
        const claims = told.filter(({ claim }) => claim !== undefined);
        expect([claims.filter(({ holds }) => holds !== true), exitCode, stderr]).toEqual([[], 0, expect.any(String)]);
        expect(told.at(-1)).toMatchObject({ ok: true, claims: claims.length });
        expect(claims.map(({ claim }) => claim)).toEqual(
          expect.arrayContaining([
            'its machine is a process of this host, run by cloud-hypervisor',
            'its disk is a snapshot device of this host',
            'the same process is still counting',
            'no mapped or loop device of it is left while it is paused',
            'no file of it is left on the host',
          ]),
        );
        process.stdout.write(`${claims.map(({ claim, found }) => `    ✓ ${claim} (${found})`).join('\n')}\n`);
      },
      DEMO_MS,
    );
  },
);
