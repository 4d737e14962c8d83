import { mkdtemp, readdir, readlink, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { CommandError, type Exec, type RunOptions } from '../../exec.js';
import { NetnsNetwork } from './netns-network.driver.js';

/** Notes commands instead of running them; one of them may fail. */
class NotingExec implements Exec {
  readonly commands: { line: string; input: string }[] = [];
  failing: { line: RegExp; stderr: string } | undefined;

  async run(argv: readonly string[], options: RunOptions = {}): Promise<{ stdout: string; stderr: string }> {
    options.signal?.throwIfAborted();
    const line = argv.join(' ');
    this.commands.push({ line, input: options.input ?? '' });
    if (this.failing?.line.test(line) === true) {
      throw new CommandError(argv, { exitCode: 1, signal: null, stderr: this.failing.stderr, timedOut: false });
    }
    return { stdout: '', stderr: '' };
  }

  spawnDetached(): Promise<{ pid: number }> {
    return Promise.reject(new Error('a network needs no process'));
  }
}

let [dir, slotsDir] = ['', ''];
let exec: NotingExec;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'netns-'));
  slotsDir = join(dir, 'slots');
  exec = new NotingExec();
});
afterEach(async () => rm(dir, { recursive: true }));

const network = (): NetnsNetwork =>
  new NetnsNetwork({ cidr: '10.50.0.0/30', hostTag: 'h-1', vmUser: 'vm', exec, slotsDir, namespacesDir: dir });

describe('NetnsNetwork', () => {
  it('makes a network with five processes, whatever its egress', async () => {
    await network().ensure('abc', { egress: false });
    const veth = /link add (\S+) type veth/.exec(exec.commands[0]?.input ?? '')?.[1] ?? '';
    expect(exec.commands.map(({ line }) => line.split(' ').slice(0, 3).join(' '))).toEqual([
      'ip -batch -',
      `ip -n ${veth}`,
      `nsenter --net=${dir}/${veth} tee`,
      `nsenter --net=${dir}/${veth} nft`,
      'nft -f -',
    ]);
    expect(veth).toMatch(/^tp[0-9a-f]{6}n[01]$/);
    expect(veth.length).toBeLessThanOrEqual(15);
    expect(await readlink(join(dir, 'sbx-abc'))).toBe(veth);
    expect(exec.commands[1]?.input).toContain('tuntap add dev tap0 mode tap user vm');
    expect(exec.commands[4]?.input).toContain(`delete element inet torpor_h_1 egress { "${veth}" }`);
  });

  it('adds nothing but a member of a set to the rules of the host', async () => {
    await network().ensure('a', { egress: true });
    await network().ensure('b', { egress: true });
    const [first, second] = exec.commands
      .filter(({ line }) => line === 'nft -f -')
      .map(({ input }) => input.split('\n'));
    const differing = first?.filter((line, index) => line !== second?.[index]);
    expect(differing).toEqual([expect.stringMatching(/^add element inet torpor_h_1 egress/)]);
  });

  it('frees the address of a network that could not be made', async () => {
    exec.failing = { line: /^nsenter .* nft/, stderr: 'Error: syntax error' };
    await expect(network().ensure('abc', { egress: true })).rejects.toBeInstanceOf(CommandError);
    expect(await readdir(slotsDir)).toEqual([]);
    expect(await readdir(dir)).toEqual(['slots']);
    expect(await network().list()).toEqual([]);
  });

  it('says what the kernel lacks', async () => {
    const refused = '/dev/stdin:9:1-60: Error: Could not process rule: No such file or directory\n';
    const lacks: [RegExp, string, RegExp][] = [
      [/^ip -batch/, 'Error: Unknown device type.', /lacks veth devices/],
      [/^ip -n/, 'open: /dev/net/tun: No such file or directory', /lacks tap devices/],
      [/^nft/, '/dev/stdin:2:1: Error: Could not process rule: No such file or directory', /lacks nftables with NAT/],
      [
        /^nsenter .* nft/,
        `${refused}add rule ip torpor refuse reject with icmp admin-prohibited\n~~~`,
        /nft_reject_ipv4/,
      ],
      [
        /^nsenter .* nft/,
        `${refused}add set ip torpor allow_port { type ipv4_addr . inet_proto . x; }`,
        /5\.6 or newer/,
      ],
      [/^nft/, `${refused}add rule inet torpor_h_1 input ct state established accept`, /nft_ct/],
      [/^ip -batch/, 'RTNETLINK answers: Operation not permitted', /need root or CAP_NET_ADMIN/],
    ];
    for (const [line, stderr, message] of lacks) {
      exec.failing = { line, stderr };
      const outcome = await network()
        .ensure('abc', { egress: true })
        .catch((err: unknown) => err);
      // Undoing fails as well here, so the cause may be one of several.
      const cause = outcome instanceof AggregateError ? (outcome.errors[0] as unknown) : outcome;
      expect(cause).toMatchObject({ code: 'unsupported', message: expect.stringMatching(message) });
    }
  });
});
