import { describe, expect, it } from '@jest/globals';
import { CommandError, type Exec } from '../../exec.js';
import { findVersion, loadsInBackground, parseVersion } from './version.js';

function printing(stdout: string): Exec {
  return {
    run: async () => ({ stdout, stderr: '' }),
    spawnDetached: () => Promise.reject(new Error('nothing to start')),
  };
}

describe('the version of Cloud Hypervisor', () => {
  it.each([
    ['cloud-hypervisor v53.0.0\nMigration Protocol Versions: 0\n', '53.0.0', 53],
    ['cloud-hypervisor v52.0\n', '52.0', 52],
    ['cloud-hypervisor v54.0-12-gabcdef-dirty\n', '54.0-12-gabcdef-dirty', 54],
  ])('is read from %j', (stdout, text, major) => {
    expect(parseVersion('ch', stdout)).toEqual({ text, major });
  });

  it('is not guessed', () => {
    expect(() => parseVersion('/opt/ch', 'QEMU emulator version 7.2.22')).toThrow(
      '`/opt/ch --version` does not tell its version: QEMU emulator version 7.2.22',
    );
  });

  it('may be too old, which names what was found and what is needed', async () => {
    await expect(findVersion(printing('cloud-hypervisor v51.1.0'), '/opt/ch')).rejects.toMatchObject({
      code: 'unsupported',
      message: expect.stringMatching(/^\/opt\/ch is version 51\.1\.0, but version 52\.0 or newer is needed/),
    });
    expect(await findVersion(printing('cloud-hypervisor v52.0'), 'ch')).toMatchObject({ major: 52 });
  });

  it('of a binary that cannot be run says where one may come from', async () => {
    const outcome = { exitCode: 127, signal: null, stderr: 'ch is not installed', timedOut: false };
    const exec = { ...printing(''), run: () => Promise.reject(new CommandError(['ch', '--version'], outcome)) };
    await expect(findVersion(exec, 'ch')).rejects.toMatchObject({
      code: 'unsupported',
      message: expect.stringMatching(/ch is not installed.*TORPOR_CLOUD_HYPERVISOR_BIN/),
    });
  });

  it('decides whether memory is loaded in the background', () => {
    expect(loadsInBackground({ text: '52.0', major: 52 })).toBe(false);
    expect(loadsInBackground({ text: '53.0', major: 53 })).toBe(true);
  });
});
