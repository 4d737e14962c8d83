import type { Command } from 'commander';
import type { CliConfig } from '../config.js';
import { addHelpPage, apiPage } from '../help-page.js';
import { findApi, RestClient } from '../rest-client.js';
import type { SandboxNetwork } from '../rest-types.js';
import { fullSandboxId } from '../sandbox-id.js';
import { printJson, printTable } from '../tables.js';
import {
  addClearingOptions,
  addNetworkOptions,
  DESTINATION_TERMS,
  formatDestination,
  NETWORK_NOTES,
  policyChanges,
  type NetworkOptions,
} from './network-options.js';
import { settle, type WaitOptions } from './sandbox-lifecycle.js';

export interface ChangeOptions {
  dnsAsEgress?: boolean;
}

export function addNetworkCommand(sandbox: Command, config: CliConfig): void {
  const command = sandbox
    .command('network')
    .summary('show or change what a sandbox may send')
    .description(
      'Shows the network policy of a sandbox and what has passed its interface; with options, changes the policy of a running or paused one and waits until its host has applied it.',
    )
    .argument('<id>', 'its id');
  addClearingOptions(addNetworkOptions(command))
    .option('--no-wait', 'return as soon as the change is accepted')
    .option('--json', 'policy and counters as JSON', false)
    .action((id: string, options: NetworkOptions & ChangeOptions & WaitOptions) => sandboxNetwork(config, id, options));
  addHelpPage(
    command,
    apiPage({
      notes: [
        'An id may be shortened to any beginning that only one living sandbox has.',
        'What is not named stays as it is; --allow and --deny, once given, are the whole new list. The sandbox runs on meanwhile; connections that the new policy forbids end. If it cannot be applied, the policy before it holds. That of a paused sandbox holds from its next resume.',
        ...NETWORK_NOTES,
        'Counters begin anew with each resume.',
      ],
      terms: DESTINATION_TERMS,
      examples: [
        ['torpor sandbox network ID', 'policy and counters'],
        ['torpor sandbox network ID --no-egress --allow 10.0.0.0/8:443/tcp --dns', 'one service, and names'],
        ['torpor sandbox network ID --egress --deny 10.0.0.0/8 --tx-mbps 20', 'the internet, not the house, slowly'],
        ['torpor sandbox network ID --egress --no-allow --no-deny --no-tx-mbps --dns-as-egress', 'everything again'],
      ],
    }),
  );
}

async function sandboxNetwork(
  config: CliConfig,
  abbreviated: string,
  options: NetworkOptions & ChangeOptions & WaitOptions,
): Promise<void> {
  const client = new RestClient(findApi(config));
  const id = await fullSandboxId(client, abbreviated);
  const changes = policyChanges(withDns(options));
  if (changes !== undefined) {
    const { policy } = await client.network(id);
    await settle(client, await client.setNetwork(id, { ...policy, ...changes }), 'network', options);
  }
  const network = await client.network(id);
  if (options.json) return printJson(network);
  printTable([], networkRows(network));
}

export function withDns(options: NetworkOptions & ChangeOptions): NetworkOptions {
  return options.dnsAsEgress ? { ...options, dns: 'auto' } : options;
}

function networkRows({ policy, counters, counters_note: note }: SandboxNetwork): string[][] {
  const passed = (bytes: number, packets: number) => `${bytes} bytes in ${packets} packets`;
  return [
    ['egress', policy.egress ? 'on' : 'off'],
    ['allow', policy.allow.map(formatDestination).join(' ')],
    ['deny', policy.deny.map(formatDestination).join(' ')],
    ['dns', policy.dns === null ? 'as everything else' : policy.dns ? 'on' : 'off'],
    ['tx limit', policy.tx_mbps === null ? 'none' : `${policy.tx_mbps} Mbit/s`],
    ...(counters === null
      ? [['counters', `none: ${note ?? 'its host has none'}`]]
      : [
          ['sent', passed(counters.sent_bytes, counters.sent_packets)],
          ['received', passed(counters.received_bytes, counters.received_packets)],
          ['denied', `${counters.denied_packets} packets`],
        ]),
  ];
}
