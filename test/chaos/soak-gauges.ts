import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { PROCESS_NAMES, type ProcessName } from './chaos-process.js';
import { aligned, median } from './report.js';
import type { Rig } from './rig.js';

const EVERY_MS = 5_000;

/** Samples the memory of the platform's processes while a soak runs. */
export class MemoryGauge {
  readonly #samples = new Map<ProcessName, number[]>();

  constructor(private readonly rig: Rig) {}

  async run(until: AbortSignal): Promise<void> {
    while (!until.aborted) {
      for (const name of PROCESS_NAMES) {
        const mib = await residentMib(this.rig.platform.process(name).pid);
        // It may just have been killed.
        if (mib !== undefined) this.#samples.set(name, [...(this.#samples.get(name) ?? []), mib]);
      }
      await delay(EVERY_MS, undefined, { signal: until }).catch(() => undefined);
    }
  }

  table(): string {
    const rows = [...this.#samples].map(([name, samples]) => {
      const third = Math.ceil(samples.length / 3);
      const [first, last] = [median(samples.slice(0, third)), median(samples.slice(-third))];
      return [name, String(samples.length), mibs(first), mibs(last), mibs(Math.max(...samples))];
    });
    return aligned([['process', 'samples', 'MiB in the first third', 'in the last', 'most'], ...rows]);
  }
}

function mibs(value: number | undefined): string {
  return value === undefined ? '-' : value.toFixed(0);
}

async function residentMib(pid: number): Promise<number | undefined> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
  const kib = /^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1];
  return kib === undefined ? undefined : Number(kib) / 1024;
}

/** The most events that any run has, open or closed; Temporal's limit is 51,200 and it warns from 10,240 on. */
export async function longestHistory(rig: Rig): Promise<{ events: number; workflowId: string; runs: number }> {
  const longest = { events: 0, workflowId: '-', runs: 0 };
  for await (const { historyLength, workflowId } of rig.records.client.workflow.list()) {
    longest.runs += 1;
    if (historyLength <= longest.events) continue;
    longest.events = historyLength;
    longest.workflowId = workflowId;
  }
  return longest;
}
