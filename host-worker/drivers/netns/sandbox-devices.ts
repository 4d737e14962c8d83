import { access, lstat, readFile, readlink, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DomainError } from '../../../workflows/contract/errors.js';
import { namesIn } from '../../sandbox-folder.js';
import type { AddressSlot } from './address-slots.js';
import { INNER } from './rulesets.js';
import type { RunTool } from './tools.js';

/** Where `ip netns` keeps them. */
export const NAMESPACES = '/run/netns';
const LINKS = '/sys/class/net';
const FORWARDING = '/proc/sys/net/ipv4/ip_forward';
const ID_IN_NAMESPACE = /^sbx-(.+)$/;
/** In the place of a sandbox's name, on the link of a network that was made ahead. */
const AHEAD = 'ahead';

export function namespaceOf(id: string): string {
  return `sbx-${id}`;
}

/**
 * The devices of a slot: a namespace, a veth pair made straight into it, and a tap. Namespace and link bear the slot's
 * name, so that they can be made before anybody knows for whom. A sandbox's own name, `sbx-<id>`, is a symbolic link to the
 * namespace, which is given in one step, and the alias of the link, which says whose it is even when the slot's record is lost.
 */
export class SandboxDevices {
  constructor(
    private readonly run: RunTool,
    private readonly prefix: string,
    private readonly vmUser: string,
    private readonly namespaces: string,
  ) {}

  nameOf(slot: AddressSlot): string {
    return `${this.prefix}${slot.index.toString(36)}`;
  }

  /** Of the namespace itself, whatever its sandbox. */
  pathOf(slot: AddressSlot): string {
    return join(this.namespaces, this.nameOf(slot));
  }

  /** By the name that the sandbox has given it. */
  pathFor(id: string): string {
    return join(this.namespaces, namespaceOf(id));
  }

  /** Also of one that no record knows of: foreign, or a living sandbox's whose record was deleted. */
  async hasLink(slot: AddressSlot): Promise<boolean> {
    return exists(join(LINKS, this.nameOf(slot)));
  }

  /** The namespace with the host's side; what is inside comes from `inside`. */
  async make(slot: AddressSlot, id: string | undefined, signal?: AbortSignal): Promise<void> {
    const name = this.nameOf(slot);
    // The name of a namespace that somebody deleted by the sandbox's name stays behind, empty.
    if (await exists(this.pathOf(slot))) await this.run(['ip', 'netns', 'del', name]);
    await this.run(
      ['ip', '-batch', '-'],
      hostSideBatch(name, slot, id === undefined ? AHEAD : namespaceOf(id)),
      signal,
    );
  }

  /** What there is to do inside of a new namespace, rules aside; the parts can run at the same time. */
  async inside(slot: AddressSlot, signal?: AbortSignal): Promise<Promise<unknown>[]> {
    const switches = await switchesInside();
    return [
      this.run(['ip', '-n', this.nameOf(slot), '-batch', '-'], insideBatch(slot, this.vmUser), signal),
      this.run(['nsenter', `--net=${this.pathOf(slot)}`, 'tee', ...switches], '1\n', signal),
    ];
  }

  /** Whether both ends are there; what is inside is not looked at. */
  async areThere(slot: AddressSlot): Promise<boolean> {
    return (await exists(this.pathOf(slot))) && (await this.hasLink(slot));
  }

  /** As `areThere`, under the sandbox's name, which older workers gave to the namespace itself. */
  async areNamed(slot: AddressSlot, id: string): Promise<boolean> {
    return (await exists(this.pathFor(id))) && (await this.hasLink(slot));
  }

  /** Names the namespace after its sandbox. */
  async name(slot: AddressSlot, id: string): Promise<void> {
    await symlink(this.nameOf(slot), this.pathFor(id));
  }

  /** Names the link of a network that was made ahead after the sandbox that gets it. */
  async rename(slot: AddressSlot, id: string): Promise<void> {
    const name = this.nameOf(slot);
    await writeFile(join(LINKS, name, 'ifalias'), namespaceOf(id)).catch(() =>
      // Where /sys is read-only, as in some containers.
      this.run(['ip', 'link', 'set', 'dev', name, 'alias', namespaceOf(id)]),
    );
  }

  /** Whether this host gave the sandbox's name away before. Rejects where a namespace of that name is none of this host's. */
  async hasName(id: string): Promise<boolean> {
    const namespace = namespaceOf(id);
    const there = await lstat(this.pathFor(id)).catch(() => undefined);
    if (there === undefined) return false;
    if ((await this.#targetOf(id))?.startsWith(this.prefix) === true) return true;
    throw new DomainError(
      'command_failed',
      `a network namespace ${namespace} is there that this host did not make; look at it with \`ip netns pids ${namespace}\`, and if nobody needs it delete it: \`ip netns del ${namespace}\``,
    );
  }

  /**
   * The veth goes by name: with its namespace alone the kernel would remove it some time
   * later, and never while a process is left in there.
   */
  async remove(slot: AddressSlot, id: string | undefined): Promise<void> {
    const name = this.nameOf(slot);
    const namespace = (await this.#isOfOldFormat(slot, id)) ? namespaceOf(id ?? '') : name;
    const left = async (): Promise<string[]> => [
      ...((await this.hasLink(slot)) ? [`link del dev ${name}`] : []),
      ...((await exists(join(this.namespaces, namespace))) ? [`netns del ${namespace}`] : []),
    ];
    for (const command of await left()) {
      try {
        await this.run(['ip', ...command.split(' ')]);
      } catch (err) {
        // The kernel may have been removing it already.
        if ((await left()).includes(command)) throw err;
      }
    }
    if (id !== undefined && (await this.#targetOf(id)) === name) await this.unname(id);
  }

  /** Takes the sandbox's name away, and nothing of what it names. */
  async unname(id: string): Promise<void> {
    if ((await this.#targetOf(id))?.startsWith(this.prefix) === true) await rm(this.pathFor(id), { force: true });
  }

  /** This host's links by the id that they bear, with the number of their slot. */
  async named(): Promise<Map<string, number>> {
    const found = new Map<string, number>();
    for (const link of await this.links()) {
      const alias = await readFile(join(LINKS, link, 'ifalias'), 'utf8').catch(() => '');
      const id = ID_IN_NAMESPACE.exec(alias.trim())?.[1];
      if (id !== undefined) found.set(id, this.#numberOf(link));
    }
    for (const namespace of await namesIn(this.namespaces)) {
      const id = ID_IN_NAMESPACE.exec(namespace)?.[1];
      const target = id === undefined ? undefined : await this.#targetOf(id);
      if (id !== undefined && target?.startsWith(this.prefix)) found.set(id, this.#numberOf(target));
    }
    return found;
  }

  async links(): Promise<string[]> {
    return (await namesIn(LINKS)).filter((name) => name.startsWith(this.prefix));
  }

  #numberOf(name: string): number {
    return Number.parseInt(name.slice(this.prefix.length), 36);
  }

  /** Undefined where the sandbox's name is no symbolic link. */
  async #targetOf(id: string): Promise<string | undefined> {
    return readlink(this.pathFor(id)).catch(() => undefined);
  }

  /** Networks of older workers live on under this one: their namespaces bear the sandbox's name alone. */
  async #isOfOldFormat(slot: AddressSlot, id: string | undefined): Promise<boolean> {
    if (id === undefined || (await exists(this.pathOf(slot)))) return false;
    return lstat(this.pathFor(id)).then(
      (entry) => entry.isFile(),
      () => false,
    );
  }
}

/** The link bears the name of the sandbox, which says whose it is even when its slot is lost. */
function hostSideBatch(name: string, slot: AddressSlot, alias: string): string {
  return `
netns add ${name}
link add ${name} type veth peer name ${INNER.uplink} netns ${name}
addr add ${slot.hostSide}/31 dev ${name}
link set dev ${name} alias ${alias} up
`;
}

/** The guest's hardware address is told rather than asked for: a question lost while it starts is only repeated after a second. */
export function insideBatch(slot: AddressSlot, vmUser: string): string {
  return `
link set dev lo up
addr add ${slot.guestSide}/31 dev ${INNER.uplink}
link set dev ${INNER.uplink} up
route add default via ${slot.hostSide}
tuntap add dev ${INNER.tap} mode tap user ${vmUser}
link set dev ${INNER.tap} address ${INNER.gatewayMac} txqueuelen 5000
addr add ${INNER.gateway}/${INNER.prefix} dev ${INNER.tap}
link set dev ${INNER.tap} up
neigh add ${INNER.guest} lladdr ${INNER.mac} dev ${INNER.tap} nud permanent
`;
}

/** Forwarding on and IPv6 off; where the machine has no IPv6 there is nothing to turn off. */
async function switchesInside(): Promise<string[]> {
  const ipv6 = '/proc/sys/net/ipv6/conf';
  const off = (await exists(ipv6)) ? [`${ipv6}/all/disable_ipv6`, `${ipv6}/default/disable_ipv6`] : [];
  return [FORWARDING, ...off];
}

export async function openForwarding(): Promise<void> {
  if ((await readFile(FORWARDING, 'utf8')).trim() !== '1') await writeFile(FORWARDING, '1');
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}
