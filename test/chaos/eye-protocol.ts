import type { MachineSnapshot } from '../support/machine-facts.js';
import type { HostDirectories } from './checks/host-view.js';

/** What can be asked about the machine of a host worker that is not this one. */
export type EyeQuestion =
  | { look: 'host'; directories: HostDirectories }
  | { look: 'inside'; namespace: string }
  | { look: 'machine'; directories: readonly string[]; marks: readonly string[] }
  | { look: 'slots'; host: { hostDirectory: string; runDirectory: string } }
  | { look: 'kill'; pid: number };

/** A snapshot on its way. */
export type PackedSnapshot = [kind: string, things: [key: string, what: string][]][];

export function packed(snapshot: MachineSnapshot): PackedSnapshot {
  return [...snapshot].map(([kind, things]) => [kind, [...things]]);
}

export function unpacked(snapshot: PackedSnapshot): MachineSnapshot {
  return new Map(snapshot.map(([kind, things]) => [kind, new Map(things)]));
}
