import { describeBuild, waitForBuild } from '../operation-wait.js';
import type { RestClient } from '../rest-client.js';
import type { Template } from '../rest-types.js';

const TEMPLATE = 'minimal';

/** Whether create can restore a snapshot instead of booting: some host has one of the template's own size. */
function isWarm({ warm, vcpus, memory_mb }: Template, onlineHosts: ReadonlySet<string>): boolean {
  return warm.some((one) => one.vcpus === vcpus && one.memory_mb === memory_mb && onlineHosts.has(one.host_id));
}

/** Builds the warm snapshot of the template that everybody starts with, unless there is one. */
export async function ensureWarmTemplate(client: RestClient, note: (text: string) => void): Promise<'there' | 'built'> {
  const [{ items: templates }, { items: hosts }] = await Promise.all([
    client.templates({ limit: 200 }),
    client.hosts({ limit: 200 }),
  ]);
  const online = new Set(hosts.filter(({ status }) => status === 'online').map(({ id }) => id));
  const template = templates.find(({ name, scope }) => name === TEMPLATE && scope === 'platform');
  if (template && isWarm(template, online)) return 'there';
  // One that is under way, of this team or of another, is what the request gets.
  const size = template ? { vcpus: template.vcpus, memory_mb: template.memory_mb } : {};
  const { id } = await client.build({ template: TEMPLATE, ...size });
  await waitForBuild(client, id, (now) => note(describeBuild(now)));
  return 'built';
}
