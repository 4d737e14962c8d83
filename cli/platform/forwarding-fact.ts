import { tryCommand } from './command.js';
import { fact, type Fact } from './machine-facts.js';

interface Chain {
  family: string;
  table: string;
  name: string;
  hook?: string;
  policy?: string;
}

const OURS = /^torpor_/;

/**
 * A chain of somebody else's that drops what is forwarded, as container engines and host
 * firewalls make it, cuts guests off, whatever our own table accepts.
 */
export async function forwardingFact(): Promise<Fact> {
  const result = await tryCommand(['nft', '--json', 'list', 'chains'], { timeoutMs: 10_000 }).catch(() => undefined);
  return judgeForwarding(result?.exitCode === 0 ? result.stdout : undefined);
}

export function judgeForwarding(chains: string | undefined): Fact {
  if (chains === undefined) {
    return fact('forwarding', false, { ok: false, detail: 'nft does not list the chains' }, 'apt-get install nftables');
  }
  const { nftables } = JSON.parse(chains) as { nftables: { chain?: Chain }[] };
  const dropping = nftables
    .flatMap(({ chain }) => (chain === undefined ? [] : [chain]))
    .filter(({ hook, policy, table }) => hook === 'forward' && policy === 'drop' && !OURS.test(table));
  const names = dropping.map(({ family, table, name }) => `${family} ${table} ${name}`);
  const detail = names.length === 0 ? 'nobody else drops what guests send' : `dropped by ${names.join(', ')}`;
  const remedy = `guests reach nothing outside: let their interfaces pass there, for example: ${dropping
    .map(({ family, table, name }) => `nft insert rule ${family} ${table} ${name} iifname "tp*" accept`)
    .join('; ')} (and the same with oifname)`;
  return fact('forwarding', false, { ok: names.length === 0, detail }, remedy);
}
