/** What changes without anybody changing the rules: counters, the kernel's numbering, time until an element expires. */
const VOLATILE: ReadonlySet<string> = new Set(['handle', 'packets', 'bytes', 'expires']);

type NftObject = Record<string, unknown>;

/**
 * The tables, chains, sets, elements and rules of `nft --json list ruleset`, each by itself: a table that stayed
 * and a set that kept a sandbox's address are different leaks.
 */
export function nftThings(json: string): Map<string, string> {
  const things = new Map<string, string>();
  if (json === '') return things;
  const { nftables } = JSON.parse(json) as { nftables: NftObject[] };
  for (const entry of nftables) {
    const [type = '', value] = Object.entries(entry)[0] ?? [];
    if (type === 'metainfo') continue;
    const { elem = [], ...object } = value as NftObject;
    const name = nameOf(type, object);
    add(things, `${name} ${text(without(object, ['family', 'table', 'chain', 'name']))}`.trim());
    for (const element of elem as unknown[]) add(things, `element ${text(element)} of ${name}`);
  }
  return things;
}

/** The same rule may stand twice, and a second one left behind is a leak too. */
function add(things: Map<string, string>, what: string): void {
  let key = what;
  for (let again = 2; things.has(key); again++) key = `${what} #${again}`;
  things.set(key, key);
}

function nameOf(type: string, { family, table, chain, name }: NftObject): string {
  return [type, family, table, chain, name].filter((part) => typeof part === 'string').join(' ');
}

function without(object: NftObject, keys: readonly string[]): NftObject {
  return Object.fromEntries(Object.entries(object).filter(([key]) => !keys.includes(key)));
}

function text(value: unknown): string {
  const json = JSON.stringify(value, (key, inner: unknown) => (VOLATILE.has(key) ? undefined : inner));
  return json === '{}' ? '' : json;
}
