import { readFile } from 'node:fs/promises';
import { eventually } from '../../support/e2e-eventually.js';
import { AGENT_PORT } from './guest-harness.js';

/** Of include/net/tcp_states.h: established, or its first packet is sent. */
const OPEN = new Set(['01', '02']);

/** Returns once a call to the agent at this address is on its way: a connection to it is open, or being opened. */
export async function callUnderWay(address: string): Promise<void> {
  await eventually(`a connection to ${address}`, async () => ((await connectionsTo(address)) > 0 ? true : undefined));
}

async function connectionsTo(address: string): Promise<number> {
  const wanted = `${littleEndian(address)}:${AGENT_PORT.toString(16).toUpperCase().padStart(4, '0')}`;
  const lines = (await readFile('/proc/net/tcp', 'utf8')).split('\n').slice(1);
  return lines.filter((line) => {
    const [, , remote, state = ''] = line.trim().split(/\s+/);
    return remote === wanted && OPEN.has(state);
  }).length;
}

/** As the kernel prints an address on the machines that we run on. */
function littleEndian(address: string): string {
  const bytes = address.split('.').map((byte) => Number(byte).toString(16).toUpperCase().padStart(2, '0'));
  return bytes.reverse().join('');
}
