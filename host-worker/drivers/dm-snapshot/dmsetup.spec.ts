import { describe, expect, it } from '@jest/globals';
import { CommandError, type Exec } from '../../exec.js';
import { Dmsetup, parseNames, parseStatuses, parseTable } from './dmsetup.js';

describe('what dmsetup prints', () => {
  it('reads the table of a snapshot, and knows what is none', () => {
    expect(parseTable('0 131072 snapshot 7:0 7:12 PO 8 1 discard_zeroes_cow\n')).toEqual({
      kind: 'snapshot',
      origin: '7:0',
      cow: '7:12',
    });
    expect(parseTable('0 2048 linear 7:0 0\n')).toEqual({ kind: 'other' });
    expect(parseTable('')).toEqual({ kind: 'other' });
  });

  it('reads how full snapshots are, and every word that the kernel has for broken ones', () => {
    const text = [
      'torpor-a-one: 0 131072 snapshot 12352/24576 64',
      'torpor-a-two: 0 2048 snapshot Invalid',
      'torpor-a-three: 0 2048 snapshot Overflow',
      'torpor-a-four: 0 2048 snapshot Merge failed',
      'torpor-a-five: 0 2048 snapshot Unknown',
      'other: 0 2048 linear ',
      '',
    ].join('\n');
    const states = [...parseStatuses(text)].map(([name, { state }]) => `${name} ${state}`);
    expect(states).toEqual([
      'torpor-a-one valid',
      'torpor-a-two invalid',
      'torpor-a-three overflow',
      'torpor-a-four invalid',
      'torpor-a-five unknown',
    ]);
    expect(parseStatuses(text).get('torpor-a-one')).toEqual({
      state: 'valid',
      sectors: 131_072,
      usedSectors: 12_352,
      cowSectors: 24_576,
    });
    expect(parseStatuses('No devices found\n').size).toBe(0);
  });

  it('reads the names of devices in the words of old and new versions', () => {
    expect(parseNames('torpor-a-one\t(253:0)\ntorpor-a-two\t(253, 1)\n')).toEqual(['torpor-a-one', 'torpor-a-two']);
    expect(parseNames('No devices found\n')).toEqual([]);
  });
});

/** Answers with these failures, one per command, and then with nothing. */
function refusing(...failures: string[]): Exec & { count: number } {
  return {
    count: 0,
    async run(argv) {
      this.count += 1;
      const stderr = failures.shift();
      if (stderr === undefined) return { stdout: '', stderr: '' };
      throw new CommandError(argv, { exitCode: 1, signal: null, stderr, timedOut: false });
    },
    spawnDetached: () => Promise.reject(new Error('nothing is started in the background')),
  };
}

const BUSY = 'device-mapper: remove ioctl on x  failed: Device or resource busy\nCommand failed.';
const ABSENT = 'device-mapper: remove ioctl on x  failed: No such device or address\nCommand failed.';

describe('removing a device', () => {
  it('waits for whoever has it open', async () => {
    const exec = refusing(BUSY, BUSY);
    await new Dmsetup(exec, 10_000).remove('x');
    expect(exec.count).toBe(3);
  });

  it('gives up at the deadline', async () => {
    await expect(new Dmsetup(refusing(...Array<string>(50).fill(BUSY)), 50).remove('x')).rejects.toThrow(/busy|remove/);
  });

  it('accepts that it is gone', async () => {
    const exec = refusing(BUSY, ABSENT);
    await new Dmsetup(exec, 10_000).remove('x');
    expect(exec.count).toBe(2);
  });

  it('does not repeat any other failure', async () => {
    const exec = refusing('device-mapper: remove ioctl on x  failed: Input/output error');
    await expect(new Dmsetup(exec, 10_000).remove('x')).rejects.toBeInstanceOf(CommandError);
    expect(exec.count).toBe(1);
  });
});
