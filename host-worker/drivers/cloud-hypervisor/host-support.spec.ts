import { describe, expect, it } from '@jest/globals';
import { CommandError, type Exec } from '../../exec.js';
import { knowsTruncation, onDemandOffer } from './host-support.js';

const user = { name: 'torpor-vm', uid: 998, gid: 998 };

/** `test` ends with this, as that user. */
function testEnding(exitCode: number): Exec & { asked: string[] } {
  const asked: string[] = [];
  return {
    asked,
    run: (argv) => {
      asked.push(argv.join(' '));
      if (exitCode === 0) return Promise.resolve({ stdout: '', stderr: '' });
      return Promise.reject(new CommandError(argv, { exitCode, signal: null, stderr: 'no', timedOut: false }));
    },
    spawnDetached: () => Promise.reject(new Error('nothing to start')),
  };
}

describe('loading on demand', () => {
  it('is not used with a version that does not do it well, whoever may', async () => {
    const exec = testEnding(0);
    expect(await onDemandOffer(exec, user, { text: '52.0', major: 52 })).toMatchObject({
      usable: false,
      why: expect.stringContaining('version 53.0 or newer'),
    });
    expect(exec.asked).toEqual([]);
  });

  it('is used where the user of VMs may open the device, which is tried as that user', async () => {
    const exec = testEnding(0);
    expect(await onDemandOffer(exec, user, { text: '53.0', major: 53 })).toMatchObject({ usable: true });
    expect(exec.asked).toEqual([
      expect.stringMatching(/^setpriv --reuid=998 .* test -r \/dev\/userfaultfd -a -w \/dev\/userfaultfd$/),
    ]);
  });

  it('does not take a broken tool for a refusal', async () => {
    await expect(onDemandOffer(testEnding(127), user, { text: '53.0', major: 53 })).rejects.toBeInstanceOf(
      CommandError,
    );
  });
});

describe('landlock', () => {
  it.each([
    ['6.1.0-56-cloud-amd64', false],
    ['5.15.0-100-generic', false],
    ['6.2.0', true],
    ['6.18.44', true],
    ['7.0.0-rc1', true],
  ])('of Linux %s has all the rights that are needed: %s', (release, known) => {
    expect(knowsTruncation(release)).toBe(known);
  });
});
