import { afterAll, beforeAll, expect, it } from '@jest/globals';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, mkdir, mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { diffMachine, type Finding, settledDifference, snapshotMachine } from './leak-check.js';
import { describeWhen } from './needs.js';

type Undo = () => Promise<unknown>;

/** In the name of everything planted here: others may use this machine too, and what they do is not looked at. */
let mark: string;
let directory: string;

const run = (program: string, ...args: string[]) => promisify(execFile)(program, args);
const ours = (findings: readonly Finding[]) => findings.filter(({ what }) => what.includes(mark));

/** A child that was killed is gone only when its parent has been told. */
function ending(child: ReturnType<typeof spawn>): Undo {
  return async () => {
    const exited = once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
  };
}

/** Nobody's child any more, and marked only in its environment: so does a worker lose a program. */
async function plantProcess(): Promise<Undo> {
  const script = 'exec -a "$0" sleep 600 >/dev/null 2>&1 & echo $!';
  const { stdout } = await promisify(execFile)('bash', ['-c', script, `${mark}_lost`], { env: { RUN: directory } });
  return async () => process.kill(Number(stdout), 'SIGKILL');
}

async function plantVirtualMachine(): Promise<Undo> {
  const program = join(tmpdir(), `qemu-system-${mark}`);
  await copyFile('/bin/sleep', program);
  const child = spawn(program, ['600'], { stdio: 'ignore' });
  await once(child, 'spawn');
  return async () => {
    await ending(child)();
    await rm(program);
  };
}

async function plantNftTable(): Promise<Undo> {
  await run('nft', 'add', 'table', 'inet', mark);
  return () => run('nft', 'delete', 'table', 'inet', mark);
}

async function plantNftElement(): Promise<Undo> {
  await run('nft', 'add', 'element', 'inet', `${mark}_kept`, 'egress', '{ 10.9.8.7 }');
  return () => run('nft', 'delete', 'element', 'inet', `${mark}_kept`, 'egress', '{ 10.9.8.7 }');
}

async function plantNamespace(): Promise<Undo> {
  await run('ip', 'netns', 'add', mark);
  return () => run('ip', 'netns', 'delete', mark);
}

async function plantLink(): Promise<Undo> {
  await run('ip', 'link', 'add', mark, 'type', 'veth', 'peer', 'name', `${mark}p`);
  return () => run('ip', 'link', 'delete', mark);
}

async function plantLoopDevice(): Promise<Undo> {
  const file = join(tmpdir(), `${mark}.img`);
  await writeFile(file, '');
  await truncate(file, 1 << 20);
  const device = (await run('losetup', '--find', '--show', file)).stdout.trim();
  return async () => {
    await run('losetup', '--detach', device);
    await rm(file);
  };
}

async function plantMount(): Promise<Undo> {
  const point = await mkdtemp(join(tmpdir(), `${mark}-mount-`));
  await run('mount', '-t', 'tmpfs', 'tmpfs', point);
  return async () => {
    await run('umount', point);
    await rm(point, { recursive: true });
  };
}

async function plantSocket(): Promise<Undo> {
  const server = createServer();
  server.listen(join(directory, 'control.sock'));
  await once(server, 'listening');
  return async () => {
    const closed = once(server, 'close');
    server.close();
    await closed;
  };
}

async function plantFile(): Promise<Undo> {
  await mkdir(join(directory, 'sandboxes'));
  await writeFile(join(directory, 'sandboxes/disk.qcow2'), '');
  return () => rm(join(directory, 'sandboxes'), { recursive: true });
}

describeWhen(process.getuid?.() === 0, 'root', 'the leak check', () => {
  beforeAll(async () => {
    // Short: a link's name has at most 15 characters.
    mark = `lk${process.pid}`;
    directory = await mkdtemp(join(tmpdir(), `${mark}-`));
    await run('nft', 'add', 'table', 'inet', `${mark}_kept`);
    await run('nft', 'add', 'set', 'inet', `${mark}_kept`, 'egress', '{ type ipv4_addr ; }');
  });

  afterAll(async () => {
    await run('nft', 'delete', 'table', 'inet', `${mark}_kept`);
    await rm(directory, { recursive: true });
  });

  it.each([
    ['an orphan', 'process', plantProcess],
    ['a virtual machine', 'process', plantVirtualMachine],
    ['a namespace', 'network namespace', plantNamespace],
    ['a link', 'link', plantLink],
    ['a table', 'nftables', plantNftTable],
    ['an element of a set', 'nftables', plantNftElement],
    ['a loop device', 'loop device', plantLoopDevice],
    ['a mount', 'mount', plantMount],
    ['a socket', 'socket', plantSocket],
    ['a file', 'file', plantFile],
  ])('reports %s left behind, as a %s', async (_, kind, plant) => {
    const options = { directories: [directory] };
    const before = await snapshotMachine(options);
    const undo = await plant();
    try {
      const { left, report } = diffMachine(before, await snapshotMachine(options));
      expect(ours(left).map((finding) => finding.kind)).toContain(kind);
      expect(report).toContain(`left behind: ${kind} `);
    } finally {
      await undo();
    }
    expect(ours((await settledDifference(before, options)).left)).toEqual([]);
  });

  it('reports what was removed though it was there before', async () => {
    const options = { directories: [directory] };
    const undo = await plantNamespace();
    const before = await snapshotMachine(options);
    await undo();
    const { gone, report } = diffMachine(before, await snapshotMachine(options));
    expect(ours(gone).map(({ kind }) => kind)).toContain('network namespace');
    expect(report).toContain(`removed, though not ours: network namespace ${mark}`);
  });

  it('says nothing of what ended, nor of what is meant to stay', async () => {
    const options = { directories: [directory], ignore: [/^file .*\/tombstones\b/] };
    const undo = await plantFile();
    const before = await snapshotMachine(options);
    await undo();
    await mkdir(join(directory, 'tombstones'));
    const { left, gone } = diffMachine(before, await snapshotMachine(options));
    await rm(join(directory, 'tombstones'), { recursive: true });
    expect(ours([...left, ...gone])).toEqual([]);
  });

  it('compares what only the caller can see', async () => {
    const open: string[] = [];
    const options = { directories: [], also: { workflow: () => Promise.resolve([...open]) } };
    const before = await snapshotMachine(options);
    open.push(`sandbox/${mark}`);
    const { left } = diffMachine(before, await snapshotMachine(options));
    expect(ours(left)).toEqual([{ kind: 'workflow', what: `sandbox/${mark}` }]);
  });
});
