import { createHash } from 'node:crypto';
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';

/** Of the host worker under test. */
interface Directories {
  hostDirectory: string;
  runDirectory: string;
}

/** One directory for the whole machine: addresses are the machine's. */
const SLOTS = '/run/torpor/slots';

/** Host workers make names from their data directory, so that several can live on one machine. */
const tagOf = ({ hostDirectory }: Directories): string => sha256(hostDirectory).slice(0, 8);

/**
 * What other platforms and tests on this machine make and remove meanwhile, told by names that cannot be of the
 * one under test: everything that this one makes bears its tag, its directories or an id out of its database.
 */
export function neighbours(host: Directories, ids: readonly string[]): RegExp[] {
  const tag = tagOf(host);
  const links = `tp${sha256(tag).slice(0, 6)}n`;
  const ours = ids.map((id) => `${id}$`).join('|') || '$';
  return [
    new RegExp(`^nftables .*\\btorpor_(?!${tag}\\b)\\w+`),
    new RegExp(`^link tp(?!${links.slice(2)})[0-9a-f]{6}n`),
    // Of guests that the conformance suites play in namespaces of their own.
    /^link gst\d+x\d+/,
    new RegExp(`^(network namespace |mount nsfs on /run/netns/)(?!sbx-(${ours})|te2e|${links})`),
    // Its own that no sandbox has yet come and go as it likes.
    /^(link|network namespace|mount nsfs on|nftables element) .* ahead$/,
    new RegExp(`^process .*: qemu-system-(?!.*(${host.runDirectory}|${host.hostDirectory})/)`),
  ];
}

/** Addresses that sandboxes of the platform under test have. */
export async function takenSlots(host: Directories): Promise<string[]> {
  return slotsWith(host, (record) => record.includes('"id":'));
}

/** Addresses of the networks that it keeps ahead; none once it has ended. */
export async function slotsAhead(host: Directories): Promise<string[]> {
  return slotsWith(host, (record) => !record.includes('"id":'));
}

async function slotsWith(host: Directories, wanted: (record: string) => boolean): Promise<string[]> {
  const names = await readdir(SLOTS).catch(absent<string[]>([]));
  const contents = await Promise.all(names.map((name) => readFile(join(SLOTS, name), 'utf8').catch(absent(''))));
  return names.filter((_, index) => {
    const record = contents[index] ?? '';
    return record.includes(`"${tagOf(host)}"`) && wanted(record);
  });
}

/** Of a neighbour it may go while it is looked at. */
function absent<T>(nothing: T): (err: NodeJS.ErrnoException) => T {
  return (err) => {
    if (err.code === 'ENOENT') return nothing;
    throw err;
  };
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
