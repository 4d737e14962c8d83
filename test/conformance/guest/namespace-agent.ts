import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { ROOT } from '../../support/root.js';
import { eventually } from '../../support/e2e-eventually.js';
import type { GuestMachine } from './guest-harness.js';

const run = promisify(execFile);

/** The real agent, compiled from the tree; Go's own cache makes that quick the second time. */
export async function compileAgent(directory: string): Promise<string> {
  const binary = join(directory, 'agent');
  const args = ['build', '-C', join(ROOT, 'guest/envd'), '-buildvcs=false', '-ldflags', '-s -w', '-o', binary, '.'];
  await run('go', args, { env: { ...process.env, CGO_ENABLED: '0' } });
  return binary;
}

/**
 * A small root of its own in memory, in which the agent does what it does in a guest: it names the machine, fills and
 * trims the disk. What would reach this machine all the same is out of its reach: the clock by capability, caches and other
 * settings of the kernel by a read-only /proc/sys.
 */
const ENTER = `
set -e
root=$1 binary=$2
mount --make-rprivate /
mount -t tmpfs -o size=12m,mode=0755 guest "$root"
cd "$root"
mkdir -p usr etc proc dev tmp run root sys/fs/cgroup
mount --bind /usr usr && mount -o remount,bind,ro usr
for name in bin sbin lib lib64; do
  if [ -L "/$name" ]; then cp -P "/$name" .; elif [ -d "/$name" ]; then mkdir "$name" && mount --bind "/$name" "$name"; fi
done
echo 'root:x:0:0:root:/root:/bin/sh' > etc/passwd
echo 'root:x:0:' > etc/group
mount --rbind /dev dev
mount -t proc proc proc
mount --bind proc/sys proc/sys && mount -o remount,bind,ro proc/sys
cp "$binary" agent
mount -o remount,size=14m .
exec setpriv --bounding-set=-sys_time,-sys_boot,-sys_module -- chroot "$root" /agent
`;

/** The real agent as the first process of namespaces of its own. Whatever it starts ends with it. Needs root. */
export class NamespaceAgent implements GuestMachine {
  #process: ChildProcess | undefined;
  #agent: number | undefined;

  private constructor(
    readonly id: string,
    readonly address: string,
    private readonly binary: string,
    private readonly root: string,
  ) {}

  /** `subnet` is the third byte of addresses that are this guest's alone. */
  static async open(id: string, binary: string, subnet: number): Promise<NamespaceAgent> {
    const [host, guest] = [`10.94.${subnet}.1`, `10.94.${subnet}.2`];
    await run('ip', ['netns', 'add', id]);
    await run('ip', ['link', 'add', id, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', id]);
    await run('ip', ['addr', 'add', `${host}/30`, 'dev', id]);
    await run('ip', ['link', 'set', id, 'up']);
    await run('ip', ['-n', id, 'addr', 'add', `${guest}/30`, 'dev', 'eth0']);
    await run('ip', ['-n', id, 'link', 'set', 'eth0', 'up']);
    await run('ip', ['-n', id, 'link', 'set', 'lo', 'up']);
    return new NamespaceAgent(id, guest, binary, await mkdtemp(join(tmpdir(), 'guest-root-')));
  }

  async start(): Promise<void> {
    if (this.#process !== undefined) return;
    const apart = ['--uts', '--ipc', '--mount', '--pid', '--fork', '--kill-child=SIGKILL'];
    const argv = [
      `--net=/run/netns/${this.id}`,
      'unshare',
      ...apart,
      'sh',
      '-c',
      ENTER,
      'enter',
      this.root,
      this.binary,
    ];
    const child = spawn('nsenter', argv, { stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    child.stderr.on('data', (chunk: Buffer) => (said = (said + chunk.toString()).slice(-4_000)));
    this.#process = child;
    this.#agent = await eventually('the agent', async () => {
      if (child.exitCode !== null) throw new Error(`it ended with ${child.exitCode}: ${said}`);
      const pid = Number(await readFile(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8'));
      const command = pid > 0 ? await readFile(`/proc/${pid}/cmdline`, 'utf8') : '';
      return command.startsWith('/agent\0') ? pid : undefined;
    });
  }

  async crash(): Promise<void> {
    const child = this.#process;
    if (child === undefined) return;
    this.#process = undefined;
    const ended = once(child, 'exit');
    // The first process of its namespace: the kernel kills all others with it.
    if (this.#agent !== undefined) process.kill(this.#agent, 'SIGKILL');
    else child.kill('SIGKILL');
    this.#agent = undefined;
    await ended;
  }

  /** Returns when it stands still: its threads stop some time after the signal only. */
  async freeze(): Promise<void> {
    const pid = this.#running();
    process.kill(pid, 'SIGSTOP');
    await eventually(`stop of process ${pid}`, async () => {
      const threads = await readdir(`/proc/${pid}/task`);
      const stats = await Promise.all(threads.map((thread) => readFile(`/proc/${pid}/task/${thread}/stat`, 'utf8')));
      return stats.every((stat) => / T \d+ /.test(stat)) ? true : undefined;
    });
  }

  async thaw(): Promise<void> {
    process.kill(this.#running(), 'SIGCONT');
  }

  async dispose(): Promise<void> {
    await this.crash();
    await run('ip', ['netns', 'delete', this.id]);
    await rm(this.root, { recursive: true, force: true });
  }

  #running(): number {
    if (this.#agent === undefined) throw new Error(`the agent of ${this.id} does not run`);
    return this.#agent;
  }
}
