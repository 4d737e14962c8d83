import { describe, expect, it } from '@jest/globals';
import { cidrProblem, portsProblem } from './network-rules.js';

describe('cidrProblem', () => {
  it.each(['10.0.0.0/8', '0.0.0.0/0', '203.0.113.7', '203.0.113.7/32', '192.168.128.0/17', '255.255.255.255/32'])(
    'takes %s',
    (cidr) => expect(cidrProblem(cidr)).toBeNull(),
  );

  it.each([
    ['10.0.0.5/8', 'must be a network: 10.0.0.0/8, or the address 10.0.0.5'],
    ['192.168.129.0/17', 'must be a network: 192.168.128.0/17, or the address 192.168.129.0'],
    ['255.255.255.255/0', 'must be a network: 0.0.0.0/0, or the address 255.255.255.255'],
    ['10.0.0.0/33', 'the length of a prefix is 0 to 32'],
    ['10.0.0.0/08', 'the length of a prefix is 0 to 32'],
    ['10.0.0.0/', 'the length of a prefix is 0 to 32'],
    ['10.0.0.0/8/8', 'must be an IPv4 network'],
    ['2001:db8::/32', 'IPv6 never goes out'],
    ['example.com', 'must be an IPv4 network'],
    ['10.0.0', 'must be an IPv4 network'],
    ['010.0.0.1', 'must be an IPv4 network'],
    [' 10.0.0.1', 'must be an IPv4 network'],
    ['10.0.0.0/8; accept', 'prefix'],
    ['', 'must be an IPv4 network'],
    [7, 'must be an IPv4 network'],
    [undefined, 'must be an IPv4 network'],
  ])('refuses %j and says what would be right', (cidr, message) => expect(cidrProblem(cidr)).toContain(message));
});

describe('portsProblem', () => {
  it.each(['1', '443', '65535', '8000-8100', '80-80'])('takes %s', (ports) => expect(portsProblem(ports)).toBeNull());

  it.each([
    ['0', 'must be a port'],
    ['65536', 'of 1 to 65535'],
    ['1-65536', 'of 1 to 65535'],
    ['8100-8000', 'from the lower to the higher port: "8000-8100"'],
    ['80,443', 'must be a port'],
    ['http', 'must be a port'],
    [443, 'must be a port such as "443"'],
    [null, 'must be a port'],
  ])('refuses %j and says what would be right', (ports, message) => expect(portsProblem(ports)).toContain(message));
});
