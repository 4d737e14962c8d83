import type { DataSource } from 'typeorm';
import { HostEntity } from '../../api/host/host.entity.js';

/** A host that is online and has the image `minimal`. */
export async function insertHost(
  { manager }: DataSource,
  id: string,
  changes: Partial<HostEntity> = {},
): Promise<void> {
  await manager.insert(HostEntity, {
    id,
    name: id,
    tokenHash: id,
    dataPlaneUrl: 'http://127.0.0.1:1',
    dataPlaneToken: 'x',
    arch: 'x86_64',
    version: '0',
    vcpus: 2,
    memoryMb: 2048,
    diskMb: 1000,
    hypervisor: 'qemu',
    hypervisorVersion: '7.2',
    cpu: 'max',
    drivers: { hypervisor: 'qemu', disk: 'qcow2', network: 'netns' },
    images: ['minimal'],
    ...changes,
  });
}
