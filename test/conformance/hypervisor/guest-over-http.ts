import { type IncomingMessage, request } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import type { GuestView } from './hypervisor.conformance.js';

const PORT = 49_983;
const MEMORY_FILE = '/dev/shm/conformance';

/** A guest as its agent shows it. No connection is kept: a restored guest knows none of those after its save. */
export function guestOverHttp(address: string): GuestView {
  return {
    awake: async () => {
      const deadline = Date.now() + 600_000;
      // Short attempts: TCP itself repeats a lost opening only after one, three and seven seconds.
      while (!(await healthy(address, 300))) {
        if (Date.now() > deadline) throw new Error(`the agent at ${address} did not answer for ten minutes`);
        await delay(20);
      }
    },
    answersWithin: (ms) => healthy(address, ms),
    bootId: async () => (await readGuestFile(address, '/proc/sys/kernel/random/boot_id')).trim(),
    uptime: async () => Number((await readGuestFile(address, '/proc/uptime')).split(' ')[0]),
    remember: async (text) => {
      const path = `/files?username=root&path=${MEMORY_FILE}`;
      await ask(address, { method: 'POST', path, timeoutMs: 10_000, body: text });
    },
    remembered: () => readGuestFile(address, MEMORY_FILE),
  };
}

async function healthy(address: string, timeoutMs: number): Promise<boolean> {
  return ask(address, { method: 'GET', path: '/health', timeoutMs }).then(
    () => true,
    () => false,
  );
}

function readGuestFile(address: string, path: string): Promise<string> {
  return ask(address, { method: 'GET', path: `/files?username=root&path=${path}`, timeoutMs: 10_000 });
}

interface Question {
  method: string;
  path: string;
  timeoutMs: number;
  body?: string;
}

function ask(host: string, { method, path, timeoutMs, body }: Question): Promise<string> {
  return new Promise((resolve, reject) => {
    const headers = body === undefined ? {} : { 'content-type': 'application/octet-stream' };
    const signal = AbortSignal.timeout(timeoutMs);
    const asked = request(
      { host, port: PORT, method, path, headers, agent: false, signal },
      (answer: IncomingMessage) => {
        let text = '';
        answer.setEncoding('utf8');
        answer.on('data', (chunk: string) => (text += chunk));
        answer.on('error', reject);
        answer.on('end', () => {
          const status = answer.statusCode ?? 0;
          if (status >= 200 && status < 300) resolve(text);
          else reject(new Error(`${method} ${path} answered ${status}: ${text}`));
        });
      },
    );
    asked.on('error', reject);
    asked.end(body);
  });
}
