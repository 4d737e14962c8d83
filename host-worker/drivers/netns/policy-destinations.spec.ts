import { describe, expect, it } from '@jest/globals';
import type { Destination } from '../../../workflows/contract/network-policy.js';
import { toNumber } from './address-range.js';
import { destinationElements } from './policy-destinations.js';

const elements = (...allow: Destination[]) => destinationElements('allow', { egress: false, allow });

describe('destinationElements', () => {
  it('has a set of addresses alone and one with protocols and ports', () => {
    expect(
      elements(
        { cidr: '10.1.2.3/8' },
        { cidr: '192.0.2.7', ports: '443', protocol: 'tcp' },
        { cidr: '192.0.2.8/31', ports: '53' },
        { cidr: '198.51.100.0/24', protocol: 'udp' },
      ),
    ).toEqual({
      addresses: ['10.0.0.0-10.255.255.255'],
      ports: [
        '192.0.2.8-192.0.2.9 . tcp . 53',
        '192.0.2.7 . tcp . 443',
        '198.51.100.0-198.51.100.255 . udp . 0-52',
        '192.0.2.8-192.0.2.9 . udp . 53',
        '198.51.100.0-198.51.100.255 . udp . 53',
        '198.51.100.0-198.51.100.255 . udp . 54-65535',
      ],
    });
  });

  it('has nothing for no policy, and everything for everything', () => {
    expect(elements()).toEqual({ addresses: [], ports: [] });
    expect(elements({ cidr: '0.0.0.0/0' })).toEqual({ addresses: ['0.0.0.0-255.255.255.255'], ports: [] });
  });

  it('joins neighbours with the same addresses', () => {
    const ports = (text: string): Destination => ({ cidr: '192.0.2.7', ports: text, protocol: 'tcp' });
    expect(elements(ports('80-90'), ports('85-100'), ports('101')).ports).toEqual(['192.0.2.7 . tcp . 80-101']);
  });

  it('covers exactly what was asked for, in pieces that never overlap, whatever overlaps in the question', () => {
    let seed = 7;
    const random = (below: number): number => (seed = (seed * 48_271) % 2_147_483_647) % below;
    for (let round = 0; round < 50; round += 1) {
      const asked = Array.from({ length: 1 + random(8) }, (): Destination => {
        const first = random(8);
        return {
          cidr: `10.0.0.${random(16)}/${28 + random(5)}`,
          ports: `${first}-${first + random(4)}`,
          protocol: 'tcp',
        };
      });
      const pieces = elements(...asked).ports.map(pieceOf);
      for (let address = 0; address < 16; address += 1) {
        for (let port = 0; port < 12; port += 1) {
          const covering = pieces.filter((piece) => contains(piece, address, port));
          const wanted = asked.some((destination) => contains(askedFor(destination), address, port));
          expect([asked, address, port, covering.length]).toEqual([asked, address, port, wanted ? 1 : 0]);
        }
      }
    }
  });

  it.each<[Destination, RegExp]>([
    [{ cidr: '10.0.0.0/33' }, /^allow\[0\]\.cidr: "10\.0\.0\.0\/33" is no IPv4 network; give one such as/],
    [{ cidr: '10.0.0' }, /is no IPv4 network/],
    [{ cidr: '10.0.0.0/8/8' }, /is no IPv4 network/],
    [{ cidr: '10.0.0.0/' }, /is no IPv4 network/],
    [{ cidr: 'example.com' }, /"example\.com" is no IPv4 network/],
    [{ cidr: '2001:db8::/32' }, /"2001:db8::\/32" is IPv6, which guests do not have/],
    [{ cidr: '10.0.0.0/8', ports: '90-80' }, /^allow\[0\]\.ports: "90-80" begins behind its end; write 80-90/],
    [{ cidr: '10.0.0.0/8', ports: '65536' }, /no port from 0 to 65535/],
    [{ cidr: '10.0.0.0/8', ports: '80,443' }, /no port from 0 to 65535; give a port such as 443/],
    [{ cidr: '10.0.0.0/8', ports: '' }, /no port/],
    [{ cidr: '10.0.0.0/8', protocol: 'icmp' as 'tcp' }, /^allow\[0\]\.protocol: "icmp" is unknown; give tcp or udp/],
  ])('refuses %j, naming the field', (destination, message) => {
    expect(() => elements(destination)).toThrow(message);
    expect(() => elements(destination)).toThrow(expect.objectContaining({ code: 'invalid_request' }));
  });

  it('refuses lists that are too long, and names the list', () => {
    const deny = Array.from({ length: 129 }, () => ({ cidr: '10.0.0.0/8' }));
    expect(() => destinationElements('deny', { egress: true, deny })).toThrow(
      /^deny: has 129 destinations; give at most 128/,
    );
    expect(destinationElements('deny', { egress: true, deny: deny.slice(1) }).addresses).toHaveLength(1);
  });
});

interface Piece {
  addresses: [number, number];
  ports: [number, number];
}

function pieceOf(element: string): Piece {
  const [addresses = '', , ports = ''] = element.split(' . ');
  const pair = (text: string, read: (part: string) => number): [number, number] => {
    const [first = '', last = first] = text.split('-');
    return [read(first), read(last)];
  };
  return { addresses: pair(addresses, (text) => toNumber(text) % 256), ports: pair(ports, Number) };
}

function askedFor({ cidr, ports = '' }: Destination): Piece {
  const [address = '', bits = ''] = cidr.split('/');
  const size = 2 ** (32 - Number(bits));
  const first = Math.floor((toNumber(address) % 256) / size) * size;
  const [from, to] = ports.split('-').map(Number);
  return { addresses: [first, first + size - 1], ports: [from ?? 0, to ?? 0] };
}

function contains({ addresses, ports }: Piece, address: number, port: number): boolean {
  return addresses[0] <= address && address <= addresses[1] && ports[0] <= port && port <= ports[1];
}
