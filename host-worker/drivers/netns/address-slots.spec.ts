import { mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { AddressSlots, parseCidr } from './address-slots.js';

let dir = '';
beforeEach(async () => void (dir = await mkdtemp(join(tmpdir(), 'slots-'))));
afterEach(async () => rm(dir, { recursive: true }));

const slots = (hostTag = 'host', cidr = '10.50.0.0/29'): AddressSlots => new AddressSlots(dir, cidr, hostTag);

describe('AddressSlots', () => {
  it('gives each sandbox a pair of its own and the same again', async () => {
    const taken = await Promise.all(['a', 'b', 'c', 'd'].map((id) => slots().take(id)));
    expect(taken.map((slot) => slot.hostSide).toSorted()).toEqual(['10.50.0.0', '10.50.0.2', '10.50.0.4', '10.50.0.6']);
    for (const [index, id] of ['a', 'b', 'c', 'd'].entries()) {
      expect(await slots().find(id)).toEqual(taken[index]);
      expect(await slots().take(id)).toEqual(taken[index]);
    }
    expect((await readdir(dir)).toSorted()).toEqual(['10.50.0.0', '10.50.0.2', '10.50.0.4', '10.50.0.6']);
  });

  it('finds a sandbox even when the pair it would prefer was freed since', async () => {
    const ids = ['a', 'b', 'c', 'd'];
    const taken = await Promise.all(ids.map(async (id) => ({ id, slot: await slots().take(id) })));
    for (const gone of taken) {
      await slots().release(gone.slot);
      for (const other of taken.filter(({ id }) => id !== gone.id))
        expect(await slots().find(other.id)).toEqual(other.slot);
      await slots().take(gone.id);
    }
  });

  it('says when none is left, and goes on once one is freed', async () => {
    const [first] = await Promise.all(['a', 'b', 'c', 'd'].map((id) => slots().take(id)));
    await expect(slots().take('e')).rejects.toMatchObject({ message: expect.stringContaining('all 4 address pairs') });
    if (first !== undefined) await slots().release(first);
    expect(await slots().take('e')).toEqual(first);
  });

  it('keeps host workers on one machine apart', async () => {
    const [mine, other] = [await slots('mine').take('x'), await slots('other').take('x')];
    expect(mine.hostSide).not.toBe(other.hostSide);
    expect(await slots('mine').list()).toEqual(['x']);
    expect(await slots('mine').find('x')).toEqual(mine);
    expect(await slots('third').find('x')).toBeUndefined();
  });

  it('does not take an address that the machine already has', async () => {
    const address = Object.values(networkInterfaces())
      .flatMap((list) => list ?? [])
      .find(({ family }) => family === 'IPv4')?.address;
    const around = slots('host', `${address}/30`);
    await around.take('a');
    await expect(around.take('b')).rejects.toMatchObject({ message: expect.stringContaining('all 2 address pairs') });
  });

  it('remembers whether a network was finished', async () => {
    const slot = await slots().take('a');
    expect(await slots().isComplete(slot)).toBe(false);
    await slots().setComplete('a', slot, true);
    expect(await slots().isComplete(slot)).toBe(true);
    expect(await slots().find('a')).toEqual(slot);
  });

  it.each([
    ['torn', '{"id":"a"', 'cannot be read'],
    ['of another format', '{"sandbox":"a"}', 'another format'],
    ['of no format', 'null', 'another format'],
  ])('names a slot file that is %s, and goes on with the others', async (_, content, words) => {
    const warned: string[] = [];
    const watched = new AddressSlots(dir, '10.50.0.0/29', 'host', ({ path }, message) => {
      warned.push(`${String(path)}: ${message}`);
    });
    await writeFile(join(dir, '10.50.0.0'), content);
    const taken = await Promise.all(['a', 'b', 'c'].map((id) => watched.take(id)));
    expect(taken.map(({ hostSide }) => hostSide)).not.toContain('10.50.0.0');
    expect((await watched.list()).toSorted()).toEqual(['a', 'b', 'c']);
    expect(warned.at(-1)).toMatch(
      `10.50.0.0: an address record ${words === 'cannot be read' ? words : `is of ${words}`}`,
    );
    await expect(watched.take('d')).rejects.toThrow('all 4 address pairs');
  });

  it('sweeps records that were never put into place, but none that may be in the making', async () => {
    for (const name of ['.old', '.new']) await writeFile(join(dir, name), '{}');
    const anHourAgo = Date.now() / 1_000 - 3_600;
    await utimes(join(dir, '.old'), anHourAgo, anHourAgo);
    await slots().sweepUnplaced();
    expect(await readdir(dir)).toEqual(['.new']);
  });
});

describe('parseCidr', () => {
  it('reads a range from any address in it', () => {
    expect(parseCidr('10.96.7.9/16')).toEqual({ first: 0x0a600000, size: 65_536 });
    expect(parseCidr('255.255.255.252/30').size).toBe(4);
  });

  it('refuses what is no range, or too small or large a one', () => {
    for (const cidr of ['', '10.0.0.0', '10.0.0/16', '10.0.0.256/16', '10.0.0.0/31', '10.0.0.0/7', 'fd00::/64']) {
      expect(() => parseCidr(cidr)).toThrow(/is no IPv4 range/);
    }
  });
});
