import { describe, expect, it } from '@jest/globals';
import { readConfig } from './config.js';

describe('the environment of a host worker', () => {
  it('may be empty', () => {
    expect(readConfig({})).toMatchObject({
      apiUrl: 'http://127.0.0.1:8080',
      dataDir: '/var/lib/torpor/host',
      images: '/var/lib/torpor/host/images.json',
      dataPlane: { host: '127.0.0.1', port: 0 },
      wishes: { hypervisor: 'auto', disk: 'auto', accel: 'auto' },
      networkPoolSize: 4,
      txMegabitsPerSecond: undefined,
      cow: {},
      cloudHypervisor: { bin: undefined },
      vmCgroup: { path: 'torpor', required: false },
      capacity: { vcpus: undefined, memoryMb: undefined },
    });
  });

  it('is read as it is given', () => {
    expect(
      readConfig({
        TORPOR_API_URL: 'https://api.example/',
        TORPOR_DATA_PLANE_LISTEN: '[::1]:7070',
        TORPOR_CAPACITY_VCPUS: '12',
        TORPOR_QEMU_ACCEL: 'tcg',
        TORPOR_HYPERVISOR: 'cloud-hypervisor',
        TORPOR_DISK: 'dm-snapshot',
        TORPOR_CLOUD_HYPERVISOR_BIN: '/opt/ch',
        TORPOR_NETWORK_POOL: '0',
        TORPOR_TX_MBPS: '200',
        TORPOR_COW_MB: '512',
        TORPOR_COW_GROW_MB: '256',
        TORPOR_VM_CGROUP: 'torpor.slice/torpor-vms.slice/torpor-vms.service',
      }),
    ).toMatchObject({
      apiUrl: 'https://api.example',
      dataPlane: { host: '::1', port: 7070 },
      capacity: { vcpus: 12 },
      wishes: { hypervisor: 'cloud-hypervisor', disk: 'dm-snapshot', accel: 'tcg' },
      cloudHypervisor: { bin: '/opt/ch' },
      networkPoolSize: 0,
      txMegabitsPerSecond: 200,
      cow: { bytes: 512 * 1024 ** 2, growBytes: 256 * 1024 ** 2 },
      vmCgroup: { path: 'torpor.slice/torpor-vms.slice/torpor-vms.service', required: true },
    });
  });

  it('names everything that is wrong at once', () => {
    const wrong = {
      TORPOR_API_URL: 'api',
      TEMPORAL_ADDRESS: 'temporal',
      TORPOR_DATA_DIR: 'data',
      TORPOR_DATA_PLANE_LISTEN: '127.0.0.1:99999',
      TORPOR_DATA_PLANE_URL: 'ftp://x',
      TORPOR_NETWORK_CIDR: 'ten',
      TORPOR_HYPERVISOR: 'firecracker',
      TORPOR_QEMU_ACCEL: 'hvf',
      TORPOR_DISK: 'vmdk',
      TORPOR_CLOUD_HYPERVISOR_BIN: 'cloud-hypervisor',
      TORPOR_NETWORK_POOL: '-1',
      TORPOR_TX_MBPS: '0',
      TORPOR_COW_MB: '15',
      TORPOR_COW_GROW_MB: 'some',
      TORPOR_VM_CGROUP: '../system.slice',
      TORPOR_CAPACITY_VCPUS: '0',
      TORPOR_CAPACITY_MEMORY_MB: '1.5',
      LOG_LEVEL: 'loud',
    };
    let message = '';
    try {
      readConfig(wrong);
    } catch (err) {
      message = (err as Error).message;
    }
    for (const name of Object.keys(wrong)) expect(message).toContain(name);
  });
});
