import type { Exec } from '../../exec.js';

/** Creating, applying and dropping internal snapshots rewrites tables and syncs them; a slow disk needs minutes. */
const TIMEOUT_MS = 120_000;

export interface ImageInfo {
  format: string;
  virtualBytes: number;
  /** File that this one is laid over, as it was given at creation. */
  backing: string | undefined;
  /** Names of internal snapshots. */
  snapshots: string[];
  /** QEMU found its tables broken and refuses to write to it. */
  corrupt: boolean;
}

/** The few uses of `qemu-img`. It locks what it opens and thereby refuses an image that a VM is using. */
export class QemuImg {
  constructor(private readonly exec: Exec) {}

  async info(path: string, signal?: AbortSignal): Promise<ImageInfo> {
    return parseInfo((await this.#run(['info', '--output=json', path], signal)).stdout);
  }

  async createOverlay(path: string, base: { path: string; format: string }, signal?: AbortSignal): Promise<void> {
    await this.#run(['create', '-q', '-f', 'qcow2', '-b', base.path, '-F', base.format, path], signal);
  }

  /** `create` remembers the content under a name, `apply` returns to it, `delete` forgets it. */
  async snapshot(
    action: 'create' | 'apply' | 'delete',
    name: string,
    path: string,
    signal?: AbortSignal,
  ): Promise<void> {
    const flag = { create: '-c', apply: '-a', delete: '-d' }[action];
    await this.#run(['snapshot', flag, name, path], signal);
  }

  #run(args: string[], signal: AbortSignal | undefined): Promise<{ stdout: string; stderr: string }> {
    return this.exec.run(['qemu-img', ...args], { timeoutMs: TIMEOUT_MS, signal });
  }
}

interface InfoJson {
  format: string;
  'virtual-size': number;
  'full-backing-filename'?: string;
  'backing-filename'?: string;
  snapshots?: { name: string }[];
  'format-specific'?: { data?: { corrupt?: boolean } };
}

export function parseInfo(json: string): ImageInfo {
  const info = JSON.parse(json) as InfoJson;
  return {
    format: info.format,
    virtualBytes: info['virtual-size'],
    backing: info['full-backing-filename'] ?? info['backing-filename'],
    snapshots: (info.snapshots ?? []).map((snapshot) => snapshot.name),
    corrupt: info['format-specific']?.data?.corrupt === true,
  };
}
