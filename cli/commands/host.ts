import type { Command } from 'commander';
import pc from 'picocolors';
import type { CliConfig } from '../config.js';
import { age } from '../durations.js';
import { addHelpPage, apiPage } from '../help-page.js';
import { collect, findApi, RestClient } from '../rest-client.js';
import { printJson, printTable } from '../tables.js';

export function addHostCommands(program: Command, config: CliConfig): void {
  const host = program
    .command('host')
    .summary('the machines that sandboxes run on')
    .description('Machines with a host worker.');
  const ls = host
    .command('ls')
    .alias('list')
    .summary('list hosts')
    .description(
      'Lists hosts: what they have, what of it is reserved, which drivers they use, when they were last heard of, and since when they are lost.',
    )
    .option('--json', 'as JSON', false)
    .action((options: { json: boolean }) => listHosts(config, options.json));
  addHelpPage(
    ls,
    apiPage({
      notes: [
        'A host that is not heard of for 20 seconds is lost: its sandboxes are `missing` until it is back. Nothing of them is deleted meanwhile.',
      ],
      examples: [['torpor host ls', 'which are online, and how full']],
    }),
  );
}

async function listHosts(config: CliConfig, json: boolean): Promise<void> {
  const client = new RestClient(findApi(config));
  const hosts = await collect(10_000, (query) => client.hosts(query));
  if (json) return printJson(hosts);
  printTable(
    ['id', 'name', 'status', 'sandboxes', 'cpus', 'memory', 'drivers', 'heard of', 'lost'],
    hosts.map(
      ({ id, name, status, vcpus, memory_mb, reserved, drivers, heartbeat_at, lost_at, hypervisor_version }) => [
        id,
        name,
        status === 'online' ? pc.green(status) : pc.red(status),
        String(reserved.sandboxes),
        `${reserved.vcpus}/${vcpus}`,
        `${reserved.memory_mb}/${memory_mb} MiB`,
        `${Object.values(drivers).join(', ')} ${hypervisor_version}`,
        `${age(heartbeat_at)} ago`,
        lost_at === null ? '' : pc.red(`${age(lost_at)} ago`),
      ],
    ),
  );
}
