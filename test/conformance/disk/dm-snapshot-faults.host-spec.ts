import { createHash, randomBytes } from 'node:crypto';
import { chown, mkdir, mkdtemp, open, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it } from '@jest/globals';
import type { DiskAttachment } from '../../../activities/host/ports.js';
import { describeWhen } from '../../support/needs.js';
import { makeDetached } from './disk-harness.js';
import { makeRawBase, MIB } from './disk-places.js';
import { DEVICE_MAPPER, type DmHarness, exec, HAS_DEVICE_MAPPER, makeDmHarness } from './dm-lab.js';

/** Emulated machines are slow. */
const TIMEOUT_MS = 180_000;
/** Any that is not root. */
const NOBODY = 65_534;

async function write({ path }: DiskAttachment, offset: number, bytes: Buffer): Promise<void> {
  const file = await open(path, 'r+');
  try {
    await file.write(bytes, 0, bytes.length, offset);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function sha256({ path }: DiskAttachment, bytes: number): Promise<string> {
  const file = await open(path, 'r');
  try {
    const { buffer } = await file.read(Buffer.alloc(bytes), 0, bytes, 0);
    return createHash('sha256').update(buffer).digest('hex');
  } finally {
    await file.close();
  }
}

describeWhen(HAS_DEVICE_MAPPER, DEVICE_MAPPER, 'dm-snapshot beyond the port', () => {
  let harness: DmHarness;
  let untouched: string[];
  beforeAll(async () => {
    harness = await makeDmHarness(tmpdir());
    await harness.put(harness.base, 1);
    untouched = await harness.things();
  });
  afterEach(async () => expect(await harness.things()).toEqual(untouched));
  afterAll(async () => harness.dispose());

  const devicesOnBase = async (): Promise<string[]> =>
    (await harness.things()).filter((thing) => thing === `loop device on ${harness.base.path}`);

  it(
    'keeps one device per base, as long as there is a disk over it, and leaves those of others alone',
    async () => {
      const foreign = (await exec.run(['losetup', '--find', '--show', '--read-only', harness.base.path])).stdout.trim();
      try {
        for (const id of ['a', 'b']) await harness.disk.create(id, harness.base);
        expect(await devicesOnBase()).toHaveLength(2);
        await harness.disk.detach('a');
        expect(await devicesOnBase()).toHaveLength(2);
        for (const id of ['a', 'b']) await harness.disk.remove(id);
        expect(await devicesOnBase()).toHaveLength(1);
      } finally {
        await exec.run(['losetup', '--detach', foreign]);
      }
    },
    TIMEOUT_MS,
  );

  it(
    'is a disk to QEMU, also as a user who only owns the node',
    async () => {
      const made = await harness.disk.create('vm', harness.base);
      await chown(made.path, NOBODY, NOBODY);
      const file = { driver: 'raw', file: { driver: 'host_device', filename: made.path } };
      const image = `json:${JSON.stringify(file)}`;
      const asNobody = ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups', '--bounding-set=-all'];
      const commands = ['write -q -P 7 0 4k', 'write -q -P 7 5M 4k', 'discard 40M 1M', 'flush'];
      await exec.run([...asNobody, 'qemu-io', ...commands.flatMap((command) => ['-c', command]), image]);
      expect(await harness.get(made)).toBe(7);
      await harness.disk.remove('vm');
    },
    TIMEOUT_MS,
  );

  it(
    'gives the room of what the guest discards back',
    async () => {
      const made = await harness.disk.create('trim', harness.base);
      const cow = join(harness.dir, 'sandboxes/trim/disk.cow');
      await write(made, 0, randomBytes(8 * MIB));
      const full = (await stat(cow)).blocks;
      await exec.run(['blkdiscard', '--offset', '0', '--length', String(6 * MIB), made.path]);
      expect((await stat(cow)).blocks).toBeLessThan(full / 2);
      await harness.disk.remove('trim');
    },
    TIMEOUT_MS,
  );

  it(
    'has room for every chunk of the base',
    async () => {
      const base = await makeRawBase(join(harness.dir, 'small.raw'), 8 * MIB);
      const made = await harness.disk.create('all', base);
      const bytes = randomBytes(8 * MIB);
      await write(made, 0, bytes);
      expect(await harness.disk.usage('all')).toMatchObject({ state: 'valid', level: 'ok' });
      await harness.disk.detach('all');
      expect(await sha256(await harness.disk.attach('all'), 8 * MIB)).toBe(
        createHash('sha256').update(bytes).digest('hex'),
      );
      await harness.disk.remove('all');
      await rm(base.path);
    },
    TIMEOUT_MS,
  );

  it(
    'extends a small CoW file under a guest that writes',
    async () => {
      const disk = await harness.open({ policy: { bytes: 4 * MIB, growBytes: 4 * MIB } });
      const made = await disk.create('grow', harness.base);
      const bytes = randomBytes(5 * MIB);
      const step = MIB / 8;
      await write(made, 0, bytes.subarray(0, 3.5 * MIB));
      for (let offset = 3.5 * MIB; offset < bytes.length; offset += step) {
        await disk.watchUsage();
        await write(made, offset, bytes.subarray(offset, offset + step));
      }
      expect(await disk.usage('grow')).toMatchObject({ state: 'valid', cowBytes: 8 * MIB });
      await disk.detach('grow');
      expect(await sha256(await disk.attach('grow'), bytes.length)).toBe(
        createHash('sha256').update(bytes).digest('hex'),
      );
      await disk.remove('grow');
    },
    TIMEOUT_MS,
  );

  it(
    'keeps what was written before its CoW file was full, refuses it then, and goes on with a policy',
    async () => {
      const strict = await harness.open({ policy: { bytes: 4 * MIB } });
      const made = await strict.create('full', harness.base);
      const bytes = randomBytes(2 * MIB);
      await write(made, 0, bytes);
      await expect(write(made, 8 * MIB, randomBytes(8 * MIB))).rejects.toMatchObject({ code: 'EIO' });
      expect(await strict.usage('full')).toMatchObject({ state: 'overflow', level: 'full' });
      await strict.detach('full');
      await expect(strict.attach('full')).rejects.toMatchObject({
        code: 'disk_full',
        message: expect.stringContaining('of 4 MiB'),
      });
      const growing = await harness.open({ policy: { bytes: 4 * MIB, growBytes: 16 * MIB } });
      const attached = await growing.attach('full');
      expect(await sha256(attached, bytes.length)).toBe(createHash('sha256').update(bytes).digest('hex'));
      await write(attached, 40 * MIB, randomBytes(4 * MIB));
      await growing.remove('full');
    },
    TIMEOUT_MS,
  );

  it(
    'says that a disk is lost whose host had no space left, and has it back as it was before',
    async () => {
      const mount = await mkdtemp(join(tmpdir(), 'full-'));
      await exec.run(['mount', '-t', 'tmpfs', '-o', 'size=8m,mode=0755', 'small', mount]);
      try {
        await mkdir(join(mount, 'data'));
        const disk = await harness.open({ dataDir: join(mount, 'data') });
        await write(await disk.create('lost', harness.base), 0, Buffer.alloc(4096, 5));
        await disk.detach('lost');
        const attached = await disk.attach('lost');
        await expect(write(attached, 0, randomBytes(16 * MIB))).rejects.toMatchObject({ code: 'EIO' });
        expect(await disk.usage('lost')).toMatchObject({ state: 'invalid' });
        await disk.rollback('lost');
        const before = await disk.attach('lost');
        expect(await sha256(before, 4096)).toBe(createHash('sha256').update(Buffer.alloc(4096, 5)).digest('hex'));
        await disk.commit('lost');
        await expect(write(before, 0, randomBytes(16 * MIB))).rejects.toMatchObject({ code: 'EIO' });
        await disk.detach('lost');
        await expect(disk.attach('lost')).rejects.toMatchObject({
          code: expect.stringMatching(/sandbox_lost|disk_full/),
        });
        await disk.remove('lost');
        expect(await disk.list()).toEqual([]);
      } finally {
        await exec.run(['umount', mount]);
        await rm(mount, { recursive: true });
      }
    },
    TIMEOUT_MS,
  );

  it(
    'waits for whoever is about to close the device',
    async () => {
      const made = await harness.disk.create('held', harness.base);
      const release = await harness.hold(made);
      const patient = await harness.open({ busyMs: 60_000 });
      const detached = patient.detach('held');
      // Open for as long as some attempts to remove it take.
      await patient.usage('held');
      await release();
      await detached;
      await harness.disk.remove('held');
    },
    TIMEOUT_MS,
  );

  it(
    'finds devices whose folder is lost, and removes them',
    async () => {
      await harness.disk.create('lost', harness.base);
      await rm(join(harness.dir, 'sandboxes/lost'), { recursive: true });
      const next = await harness.open();
      expect(await next.list()).toEqual(['lost']);
      await next.remove('lost');
      expect(await next.list()).toEqual([]);
    },
    TIMEOUT_MS,
  );

  it(
    'takes devices that are none of its making under its names for leftovers',
    async () => {
      const name = `torpor-${harness.tag}-stray`;
      await exec.run(['dmsetup', 'create', name, '--verifyudev', '--table', '0 2048 error']);
      expect(await harness.disk.list()).toEqual(['stray']);
      expect(await harness.get(await harness.disk.create('stray', harness.base))).toBe(1);
      await harness.disk.remove('stray');
    },
    TIMEOUT_MS,
  );

  it(
    'does not go on with a copy that was not finished',
    async () => {
      await makeDetached(harness, 'torn', 3);
      const folder = join(harness.dir, 'sandboxes/torn');
      await writeFile(join(folder, 'disk.cow.partial'), 'half of it');
      expect(await harness.get(await harness.disk.attach('torn'))).toBe(3);
      await harness.disk.rollback('torn');
      expect(await harness.get(await harness.disk.attach('torn'))).toBe(3);
      await harness.disk.remove('torn');
    },
    TIMEOUT_MS,
  );

  it(
    'makes a new disk where one was never finished',
    async () => {
      await makeDetached(harness, 'half', 3);
      await rm(join(harness.dir, 'sandboxes/half/disk.json'));
      expect(await harness.disk.find('half')).toBeUndefined();
      expect(await harness.disk.list()).toEqual(['half']);
      expect(await harness.get(await harness.disk.create('half', harness.base))).toBe(1);
      await harness.disk.remove('half');
    },
    TIMEOUT_MS,
  );

  it(
    'keeps apart what two workers of one machine call the same, and shares their base',
    async () => {
      const other = await mkdtemp(join(harness.dir, 'other-'));
      const disk = await harness.inDirectory(other);
      const [mine, theirs] = [await harness.disk.create('same', harness.base), await disk.create('same', harness.base)];
      await harness.put(mine, 3);
      await harness.put(theirs, 4);
      expect([await harness.get(mine), await harness.get(theirs)]).toEqual([3, 4]);
      expect(await devicesOnBase()).toHaveLength(1);
      await harness.disk.remove('same');
      expect(await harness.get(theirs)).toBe(4);
      await disk.remove('same');
      await rm(other, { recursive: true });
    },
    TIMEOUT_MS,
  );

  it(
    'refuses a disk whose base was changed',
    async () => {
      const base = await makeRawBase(join(harness.dir, 'changed.raw'), 64 * MIB);
      await harness.disk.create('changed', base);
      await harness.disk.detach('changed');
      await truncate(base.path, 32 * MIB);
      await expect(harness.disk.attach('changed')).rejects.toMatchObject({
        code: 'unsupported',
        message: expect.stringContaining(base.path),
      });
      const record = await readFile(join(harness.dir, 'sandboxes/changed/disk.json'), 'utf8');
      expect(JSON.parse(record)).toMatchObject({ version: 1, base: { path: base.path } });
      await harness.disk.remove('changed');
      await rm(base.path);
    },
    TIMEOUT_MS,
  );
});
