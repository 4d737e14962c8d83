import { describe, expect, it } from '@jest/globals';
import { readConfig } from './config.js';

describe('the environment of a host worker', () => {
  it('may be empty', () => {
    expect(readConfig({})).toMatchObject({
      apiUrl: 'http://127.0.0.1:8080',
      dataDir: '/var/lib/torpor/host',
      images: '/var/lib/torpor/host/images.json',
      dataPlane: { host: '127.0.0.1', port: 0 },
      accel: 'auto',
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
      }),
    ).toMatchObject({
      apiUrl: 'https://api.example',
      dataPlane: { host: '::1', port: 7070 },
      capacity: { vcpus: 12 },
      accel: 'tcg',
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
