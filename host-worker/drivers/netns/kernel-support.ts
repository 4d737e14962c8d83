import { chmod, stat } from 'node:fs/promises';
import { DomainError } from '../../../workflows/contract/errors.js';
import { hasErrno } from '../../errno.js';
import { CommandError } from '../../exec.js';

const TUN = '/dev/net/tun';

const REFUSED = /Could not process rule: (No such file|Operation not supported|Protocol not supported)/;

/** What the tools print when the kernel lacks something, and what that is. */
const LACKING: readonly { tool: string; says: RegExp; what: string }[] = [
  { tool: 'ip', says: /Unknown device type|Operation not supported/, what: 'veth devices (module veth)' },
  { tool: 'ip', says: /open: \/dev\/net\/tun|\/dev\/net\/tun: No such/, what: 'tap devices (module tun)' },
  { tool: 'ip', says: /mount.*failed|unshare/, what: 'network namespaces, or the right to make them' },
  // The refused line is in the words, so that what is missing can be told more closely than for the whole.
  ...(
    [
      [/ type ipv4_addr \. inet_proto/, 'nftables sets of addresses with ports (Linux 5.6 or newer)'],
      [/\breject with/, 'nftables that refuses with an answer (module nft_reject_ipv4)'],
      [/\bmasquerade|\bdnat to|type nat/, 'nftables with NAT (modules nft_chain_nat, nft_nat, nft_masq)'],
      [/\bct (state|direction)/, 'nftables with connection tracking (modules nft_ct, nf_conntrack)'],
    ] as const
  ).map(([line, what]) => ({ tool: 'nft', says: new RegExp(`${REFUSED.source}[^]*${line.source}`), what })),
  {
    tool: 'nft',
    says: REFUSED,
    what: 'nftables with NAT (modules nf_tables, nft_chain_nat, nft_masq, nft_ct)',
  },
  {
    tool: 'nft',
    says: /Unable to initialize Netlink|cache initialization failed/,
    what: 'nftables (module nf_tables)',
  },
  {
    tool: 'tc',
    says: /Specified qdisc (kind is unknown|not found)|No such file/,
    what: 'the tbf queueing discipline (module sch_tbf), which the configured rate limit needs',
  },
];

/** A failed tool's words as what the machine lacks; anything else comes back unchanged. */
export function lackOr(err: unknown): unknown {
  if (!(err instanceof CommandError)) return err;
  const text = err.stderr;
  if (/Operation not permitted/.test(text)) {
    return new DomainError(
      'unsupported',
      `networks need root or CAP_NET_ADMIN and CAP_SYS_ADMIN: ${err.message}`,
      {},
      { cause: err },
    );
  }
  const lack = LACKING.find(({ tool, says }) => err.argv.includes(tool) && says.test(text));
  if (lack === undefined) return err;
  return new DomainError('unsupported', `this kernel lacks ${lack.what}: ${err.message}`, {}, { cause: err });
}

/**
 * A tap may be opened by the user it was made for, but only through a node that user can
 * open. Where udev runs the node is open to all, as the kernel checks each use; where it
 * does not, it is root's and the unprivileged VMM could not start.
 */
export async function openTunNode(): Promise<void> {
  try {
    const { mode } = await stat(TUN);
    if ((mode & 0o666) !== 0o666) await chmod(TUN, 0o666);
  } catch (err) {
    if (!hasErrno(err, 'ENOENT')) throw err;
    throw new DomainError('unsupported', `${TUN} is missing: run \`modprobe tun\``, {}, { cause: err });
  }
}
