import { describe, expect, it } from '@jest/globals';
import { installCommand, missingPackages, parsePackageList, wantedPackages } from './system-packages.js';

describe('parsePackageList', () => {
  const list = '# a comment\n\niproute2  # ip\nqemu-system-x86 [amd64]  # machines\nqemu-system-arm [arm64]\n  lz4\n';

  it('reads names, without comments and blank lines', () => {
    expect(parsePackageList(list, 'amd64')).toEqual(['iproute2', 'qemu-system-x86', 'lz4']);
  });

  it('takes the lines of its architecture only', () => {
    expect(parsePackageList(list, 'arm64')).toEqual(['iproute2', 'qemu-system-arm', 'lz4']);
  });
});

describe('missingPackages', () => {
  it('counts only what is installed completely', () => {
    const output = 'installed iproute2\nconfig-files lz4\nhalf-installed zstd\ninstalled qemu-utils\n';
    expect(missingPackages(['iproute2', 'lz4', 'zstd', 'qemu-utils', 'unheard-of'], output)).toEqual([
      'lz4',
      'zstd',
      'unheard-of',
    ]);
  });

  it('does not take a longer name for a shorter one', () => {
    expect(missingPackages(['qemu'], 'installed qemu-utils\n')).toEqual(['qemu']);
  });
});

describe('the lists', () => {
  it('name what a host runs and what the image is built with, each once', () => {
    const wanted = wantedPackages(true);
    expect(wanted).toEqual(expect.arrayContaining(['qemu-utils', 'iproute2', 'nftables', 'e2fsprogs']));
    expect(new Set(wanted).size).toBe(wanted.length);
  });

  it('leave out what builds images where none are built', () => {
    const wanted = wantedPackages(false);
    expect(wanted).toEqual(expect.arrayContaining(['qemu-utils', 'iproute2', 'nftables']));
    expect(wanted).not.toContain('mmdebstrap');
  });

  it('become one command that asks nothing', () => {
    expect(installCommand(['lz4'])).toEqual(expect.arrayContaining(['apt-get', 'install', '--yes', 'lz4']));
  });
});
