import { describe, expect, it } from '@jest/globals';
import { Command } from 'commander';
import {
  addClearingOptions,
  addNetworkOptions,
  destination,
  formatDestination,
  policyChanges,
  type NetworkOptions,
} from './network-options.js';
import { withDns, type ChangeOptions } from './sandbox-network.js';

function changesOf(...argv: string[]) {
  const command = addClearingOptions(addNetworkOptions(new Command()))
    .exitOverride()
    .configureOutput({
      writeErr: () => undefined,
    });
  command.parse(argv, { from: 'user' });
  return policyChanges(withDns(command.opts<NetworkOptions & ChangeOptions>()));
}

describe('destination', () => {
  it.each([
    ['10.0.0.0/8', { cidr: '10.0.0.0/8' }],
    ['10.1.2.3', { cidr: '10.1.2.3' }],
    ['10.1.2.3:443', { cidr: '10.1.2.3', ports: '443' }],
    ['10.0.0.0/8:8000-8100/tcp', { cidr: '10.0.0.0/8', ports: '8000-8100', protocol: 'tcp' }],
    ['10.0.0.0/8/udp', { cidr: '10.0.0.0/8', protocol: 'udp' }],
    ['10.1.2.3/tcp', { cidr: '10.1.2.3', protocol: 'tcp' }],
  ])('reads %s, and writes it so again', (text, expected) => {
    expect(destination(text)).toEqual([expected]);
    expect(formatDestination(destination(text)[0] ?? { cidr: '' })).toBe(text);
  });

  it.each(['', 'example.com:443', '10.0.0.0/8/icmp', '10.0.0.0/8:http', 'tcp', '2001:db8::/32'])('refuses %j', (text) =>
    expect(() => destination(text)).toThrow('It must look like'),
  );
});

describe('policyChanges', () => {
  it('are only what was given', () => {
    expect(changesOf()).toBeUndefined();
    expect(changesOf('--no-egress')).toEqual({ egress: false });
    expect(changesOf('--egress', '--dns', '--tx-mbps', '5')).toEqual({ egress: true, dns: true, tx_mbps: 5 });
    expect(changesOf('--no-dns', '--allow', '10.0.0.0/8', '--allow', '1.2.3.4:53/udp')).toEqual({
      dns: false,
      allow: [{ cidr: '10.0.0.0/8' }, { cidr: '1.2.3.4', ports: '53', protocol: 'udp' }],
    });
  });

  it('take back what was set', () => {
    expect(changesOf('--no-allow', '--no-deny', '--no-tx-mbps', '--dns-as-egress')).toEqual({
      allow: [],
      deny: [],
      tx_mbps: null,
      dns: null,
    });
  });

  it('start anew where a list is cleared and named again', () => {
    expect(changesOf('--no-allow', '--allow', '10.0.0.0/8')).toEqual({ allow: [{ cidr: '10.0.0.0/8' }] });
  });
});
