import type { NetworkCounters } from '../../../workflows/contract/network-policy.js';

interface NftListing {
  nftables: {
    set?: { elem?: unknown[] };
    counter?: { name: string; packets: number; bytes: number };
  }[];
}

/** The names in what `nft -j list set` prints. */
export function elementsOf(json: string): string[] {
  const { nftables } = JSON.parse(json) as NftListing;
  return nftables.flatMap(({ set }) => set?.elem ?? []).filter((element) => typeof element === 'string');
}

/** From what `nft -j list counters` prints; a namespace that an older worker made has none until its policy is applied. */
export function countersFrom(json: string): NetworkCounters {
  const { nftables } = JSON.parse(json) as NftListing;
  const read = (name: string) => {
    const found = nftables.find(({ counter }) => counter?.name === name)?.counter;
    return { packets: found?.packets ?? 0, bytes: found?.bytes ?? 0 };
  };
  const [sent, received, denied] = [read('sent'), read('received'), read('denied')];
  return {
    sentBytes: sent.bytes,
    sentPackets: sent.packets,
    receivedBytes: received.bytes,
    receivedPackets: received.packets,
    deniedPackets: denied.packets,
  };
}

/** Whether, in what `ip -json address show` prints, the link is up and has the address. */
export function isUpWith(json: string, link: string, address: string): boolean {
  const links = JSON.parse(json) as { ifname: string; flags: string[]; addr_info: { local?: string }[] }[];
  const found = links.find(({ ifname }) => ifname === link);
  return found?.flags.includes('UP') === true && found.addr_info.some(({ local }) => local === address);
}
