import { afterAll, beforeAll, describe, expect, it } from '@jest/globals';
import { InstallGuide } from './install-guide.js';
import { LabRig } from './lab-rig.js';
import type { Lab } from './lab.js';
import { OutsideServers } from './outside-servers.js';

const START_MS = 1_200_000;
const STEP_MS = 1_200_000;
const [FIRST, SECOND] = ['1.0.0', '1.0.1'];
const GROUP = '/sys/fs/cgroup/torpor.slice/torpor-vms.slice/torpor-vms.service';

/** A release without npm: the built tree of the lab under a version of its own. Modules are the lab's. */
const release = (version: string) => `
  directory=/opt/torpor/releases/${version}
  mkdir -p "$directory"
  cd /torpor/tree
  cp -a cli dist docs guest migrations package-lock.json "$directory"
  sed 's/"version": "[^"]*"/"version": "${version}"/' package.json > "$directory/package.json"
  ln -s /torpor/tree/node_modules "$directory/node_modules"`;

/** What must be the same before and after: the process, the boot of the guest, and that nothing else was started. */
interface Life {
  pid: string;
  bootId: string;
}

describe('an installation as docs/INSTALL.md has it, on a machine with systemd', () => {
  let servers: OutsideServers;
  let rig: LabRig;
  let lab: Lab;
  let guide: InstallGuide;
  let made: string | undefined;
  let before: Life;

  beforeAll(async () => {
    servers = await OutsideServers.start();
    rig = await LabRig.open();
    lab = await rig.start('prod', { init: 'systemd', memoryMb: 4_096, bootDeadlineMs: START_MS });
    guide = new InstallGuide(lab, {
      VERSION: FIRST,
      PREVIOUS: FIRST,
      DATABASE_URL: servers.databaseUrl,
      TEMPORAL_ADDRESS: servers.temporalAddress,
      API_LISTEN: '127.0.0.1:8080',
      API_URL: 'http://127.0.0.1:8080',
      DATA_PLANE_LISTEN: '127.0.0.1:8081',
      DATA_PLANE_URL: 'http://127.0.0.1:8081',
    });
    await guide.shell('ln -sf /var/cache/torpor/bin/temporal-* /usr/local/bin/temporal');
    // Where a service finds it, as an operator would put it.
    await guide.shell('test ! -e /torpor/bin/cloud-hypervisor || ln -s /torpor/bin/cloud-hypervisor /usr/local/bin/');
    for (const version of [FIRST, SECOND]) await guide.shell(release(version));
  }, START_MS);

  afterAll(async () => {
    await rig?.close();
    await servers?.stop();
  });

  /** The steps build on one another; those behind a failed one fail at once. */
  const sandbox = (): string => {
    if (made === undefined) throw new Error('no sandbox was made');
    return made;
  };
  /** Waits for a worker that serves the guest: while none does, the command fails. */
  const life = async (): Promise<Life> => {
    const script = `until torpor sandbox exec ${sandbox()} -- cat /proc/sys/kernel/random/boot_id; do :; done`;
    const bootId = (await guide.shell(script)).trim();
    return { pid: (await guide.shell(`head -n 1 ${GROUP}/${sandbox()}/cgroup.procs`)).trim(), bootId };
  };
  const worker = async () => (await guide.shell('systemctl show --property MainPID --value torpor-host-worker')).trim();
  /** A command of ours takes seconds here, so asking again is pause enough. */
  const online = (version: string) =>
    guide.shell(`until torpor host ls --json | tr -d ' \\n' | grep -q '"version":"${version}"'; do :; done`);

  it(
    'brings up the control plane, whose processes are nobody',
    async () => {
      await guide.run('The servers');
      // No host is registered yet, which is all that it lacks.
      expect(await guide.run('The control plane')).toContain('"postgres":{"ok":true},"temporal":{"ok":true}');
      expect(await guide.run('The control plane', 1)).toMatch(
        /^TORPOR_REGISTRATION_TOKEN=\S+\nTORPOR_BOOTSTRAP_API_KEY=tpr_/,
      );
      const users = await guide.shell(
        'for unit in torpor-api torpor-control-worker; do ps -o user= -p "$(systemctl show --property MainPID --value $unit)"; done',
      );
      expect(users.trim().split(/\s+/)).toEqual(['torpor', 'torpor']);
    },
    STEP_MS,
  );

  it(
    'brings up a host, which loads its modules, gives its devices away and registers',
    async () => {
      const token = await guide.shell(`sed -n 's/^TORPOR_REGISTRATION_TOKEN=//p' /etc/torpor/control-plane.env`);
      guide.set('REGISTRATION_TOKEN', token.trim());
      await guide.run('A host');
      const doctor = await guide.run('A host', 1);
      expect(doctor).toMatch(/✓\s+dm-snapshot/);
      expect(doctor).toMatch(/✓\s+modules/);
      expect(doctor).toMatch(/✓\s+userfaultfd/);
      expect(await guide.shell('stat --format "%G %a" /dev/kvm /dev/userfaultfd')).toBe('kvm 660\nkvm 660\n');
      expect(await guide.shell('sysctl -n kernel.pid_max net.ipv4.ip_forward')).toBe('4194304\n1\n');
    },
    STEP_MS,
  );

  it(
    'serves sandboxes',
    async () => {
      guide.set('TORPOR_API_URL', 'http://127.0.0.1:8080');
      const key = await guide.shell(`sed -n 's/^TORPOR_BOOTSTRAP_API_KEY=//p' /etc/torpor/control-plane.env`);
      guide.set('TORPOR_API_KEY', key.trim());
      await online(FIRST);
      expect(await guide.run('Look at it')).toContain('Linux');
      made = (await guide.shell('torpor sandbox create --template minimal')).trim();
      before = await life();
      expect(before.pid).toMatch(/^\d+$/);
      expect(before.bootId).toMatch(/^[0-9a-f-]{36}$/);
    },
    STEP_MS,
  );

  it(
    'restarts the host worker under a running sandbox',
    async () => {
      const old = await worker();
      expect(await guide.run('How the units hold together')).toContain(sandbox());
      expect(await worker()).not.toBe(old);
      expect(await life()).toEqual(before);
    },
    STEP_MS,
  );

  it(
    'starts a worker again that was killed, with all that was in its group, and leaves the sandbox alone',
    async () => {
      const old = await worker();
      await guide.shell('systemctl kill --signal=KILL torpor-host-worker');
      expect(await life()).toEqual(before);
      expect(await worker()).not.toBe(old);
    },
    STEP_MS,
  );

  it(
    'leaves it alone also without the process that keeps its group',
    async () => {
      await guide.shell(`kill -KILL "$(cat ${GROUP}/sleeper/cgroup.procs)"`);
      await guide.run('How the units hold together');
      expect(await life()).toEqual(before);
      const stop = await lab.run('systemctl stop torpor-vms.service');
      // As systemctl says that one may not.
      expect(stop).toMatchObject({ exitCode: 4, stderr: expect.stringContaining('refused') });
    },
    STEP_MS,
  );

  it(
    'is upgraded and rolled back under it',
    async () => {
      guide.set('VERSION', SECOND);
      for (const block of [0, 1, 2]) await guide.run('Upgrade', block);
      await online(SECOND);
      expect(await guide.shell('torpor --version')).toBe(`${SECOND}\n`);
      expect(await life()).toEqual(before);

      for (const block of [0, 1]) await guide.run('Roll back', block);
      await guide.shell('curl --fail --silent --retry 60 --retry-delay 2 --retry-all-errors "$API_URL/health/ready"');
      await online(FIRST);
      expect(await guide.shell('torpor --version')).toBe(`${FIRST}\n`);
      expect(await life()).toEqual(before);
    },
    STEP_MS * 2,
  );

  it(
    'pauses and resumes what it served, is backed up, and goes',
    async () => {
      await guide.shell(`torpor sandbox pause ${sandbox()}`);
      expect(await guide.shell(`ls ${GROUP}`)).not.toContain(sandbox());
      await guide.shell(`torpor sandbox resume ${sandbox()}`);
      expect((await life()).bootId).toBe(before.bootId);
      await guide.run('Backup');
      expect(await guide.shell('stat --format %a /var/backups/torpor-etc.tar')).toBe('600\n');
      await guide.shell(`torpor sandbox rm ${sandbox()}`);
      await guide.run('Remove');
      expect(await guide.shell('systemctl list-unit-files --no-legend "torpor-*host*" "torpor-vms*" || true')).toBe('');
      expect(await guide.shell('ls /run/netns 2>/dev/null || true')).toBe('');
    },
    STEP_MS,
  );

  it('has had all of its commands run', () => {
    expect(guide.notRun).toEqual([]);
  });
});
