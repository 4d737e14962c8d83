import { open, readFile, stat, truncate } from 'node:fs/promises';
import { constants, watch } from 'node:fs';
import { hasErrno } from '../../errno.js';
import { readTail } from '../vmm/vm-folder.js';

/** A guest that resets its devices again and again makes events without end. */
const MAX_BYTES = 1024 * 1024;
const KEPT_BYTES = 64 * 1024;

export interface VmmEvent {
  source: string;
  event: string;
}

/** What the VMM has said of its VM so far. */
export interface VmStory {
  /** Of its virtual CPUs, after the last event that moved them. */
  cpus: 'none' | 'running' | 'paused';
  /** The guest was reset, and the VMM went on to boot it again by itself. */
  rebooted: boolean;
}

const EFFECTS: Readonly<Record<string, VmStory['cpus']>> = {
  booted: 'running',
  restored: 'paused',
  resumed: 'running',
  paused: 'paused',
  shutdown: 'none',
  deleted: 'none',
};

/**
 * The file in which the VMM writes what becomes of its VM. It is opened here, to be appended to, so that it can be cut,
 * and outlives the worker: the next one reads in it what happened meanwhile.
 */
export class EventLog {
  constructor(private readonly path: string) {}

  /** Descriptor for the VMM; to be closed when it has been started. */
  openForVmm(): ReturnType<typeof open> {
    return open(this.path, constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND, 0o600);
  }

  async story(): Promise<VmStory> {
    return storyOf(parseEvents(await this.#text()));
  }

  /** Calls back after every event; not for those before. Returns how to end that. */
  watch(onEvent: () => void): () => void {
    const watcher = watch(this.path, { persistent: false }, onEvent);
    // The file went away with the VM's folder.
    watcher.on('error', () => watcher.close());
    return () => watcher.close();
  }

  /** Of an event that is written meanwhile, a part may be lost. */
  async trim(): Promise<void> {
    try {
      if ((await stat(this.path)).size <= MAX_BYTES) return;
      const kept = await readTail(this.path, KEPT_BYTES);
      await truncate(this.path, 0);
      const handle = await this.openForVmm();
      try {
        await handle.writeFile(kept);
      } finally {
        await handle.close();
      }
    } catch (err) {
      if (!hasErrno(err, 'ENOENT')) throw err;
    }
  }

  async #text(): Promise<string> {
    try {
      return await readFile(this.path, 'utf8');
    } catch (err) {
      if (hasErrno(err, 'ENOENT')) return '';
      throw err;
    }
  }
}

/** Events are JSON objects with an empty line after each. One that was cut or is still being written is none. */
export function parseEvents(text: string): VmmEvent[] {
  return text.split('\n\n').flatMap((part) => {
    try {
      const { source, event } = JSON.parse(part) as Partial<VmmEvent>;
      return typeof source === 'string' && typeof event === 'string' ? [{ source, event }] : [];
    } catch {
      return [];
    }
  });
}

export function storyOf(events: VmmEvent[]): VmStory {
  const story: VmStory = { cpus: 'none', rebooted: false };
  for (const { source, event } of events) {
    if (source !== 'vm') continue;
    story.cpus = EFFECTS[event] ?? story.cpus;
    if (event === 'rebooting') story.rebooted = true;
  }
  return story;
}
