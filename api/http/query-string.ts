/** `metadata[key]=value` */
const NESTED = /^([^[\]]+)\[([^[\]]+)\]$/;

type Value = string | string[];

function add(target: Record<string, Value | Record<string, Value>>, key: string, value: string): void {
  const earlier = target[key];
  // A parameter that is given twice becomes a list, which validation then refuses.
  target[key] = typeof earlier === 'string' ? [earlier, value] : Array.isArray(earlier) ? [...earlier, value] : value;
}

/** Like the standard parser, with one level of nesting. Objects have no prototype: keys come from strangers. */
export function parseQueryString(text: string): Record<string, unknown> {
  const query = Object.create(null) as Record<string, Value | Record<string, Value>>;
  for (const [key, value] of new URLSearchParams(text)) {
    const [, outer, inner] = NESTED.exec(key) ?? [];
    if (outer === undefined || inner === undefined) {
      add(query, key, value);
      continue;
    }
    const nested = query[outer];
    if (nested === undefined) query[outer] = { [inner]: value };
    else if (typeof nested === 'object' && !Array.isArray(nested)) add(nested, inner, value);
    else add(query, outer, value);
  }
  return query;
}
