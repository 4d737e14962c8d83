import { mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { type AddressSlot, AddressSlots } from './address-slots.js';

let dir = '';
beforeEach(async () => void (dir = await mkdtemp(join(tmpdir(), 'slots-'))));
afterEach(async () => rm(dir, { recursive: true }));

const slots = (hostTag = 'host', cidr = '10.50.0.0/29'): AddressSlots => new AddressSlots(dir, cidr, hostTag);

const take = (id: string, from = slots()): Promise<AddressSlot> => from.take({ id, complete: false });

describe('AddressSlots', () => {
  it('gives each sandbox a pair of its own', async () => {
    const taken = await Promise.all(['a', 'b', 'c', 'd'].map((id) => take(id)));
    expect(taken.map((slot) => slot.hostSide).toSorted()).toEqual(['10.50.0.0', '10.50.0.2', '10.50.0.4', '10.50.0.6']);
    for (const [index, id] of ['a', 'b', 'c', 'd'].entries()) {
      expect(await slots().find(id)).toEqual(taken[index]);
    }
    expect((await readdir(dir)).toSorted()).toEqual(['10.50.0.0', '10.50.0.2', '10.50.0.4', '10.50.0.6']);
  });

  it('finds a sandbox even when the pair it would prefer was freed since', async () => {
    const ids = ['a', 'b', 'c', 'd'];
    const taken = await Promise.all(ids.map(async (id) => ({ id, slot: await take(id) })));
    for (const gone of taken) {
      await slots().release(gone.slot);
      for (const other of taken.filter(({ id }) => id !== gone.id))
        expect(await slots().find(other.id)).toEqual(other.slot);
      await take(gone.id);
    }
  });

  it('says when none is left, and goes on once one is freed', async () => {
    const [first] = await Promise.all(['a', 'b', 'c', 'd'].map((id) => take(id)));
    await expect(take('e')).rejects.toMatchObject({ message: expect.stringContaining('all 4 address pairs') });
    if (first !== undefined) await slots().release(first);
    expect(await take('e')).toEqual(first);
  });

  it('keeps host workers on one machine apart', async () => {
    const [mine, other] = [await take('x', slots('mine')), await take('x', slots('other'))];
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
    await take('a', around);
    await expect(take('b', around)).rejects.toMatchObject({ message: expect.stringContaining('all 2 address pairs') });
  });

  it('remembers what a slot is used for', async () => {
    const slot = await take('a');
    expect(await slots().use(slot)).toMatchObject({ id: 'a', complete: false });
    await slots().setUse(slot, { id: 'a', complete: true });
    expect(await slots().use(slot)).toMatchObject({ id: 'a', complete: true });
    expect(await slots('other').use(slot)).toBeUndefined();
    expect(await slots().find('a')).toEqual(slot);
  });

  it('tells what was made ahead from what sandboxes have, until one gets it', async () => {
    const ahead = await slots().take({ recipe: 'r', complete: false });
    await take('a');
    expect(await slots().listAhead()).toMatchObject([{ slot: ahead, use: { recipe: 'r', complete: false } }]);
    expect(await slots('other').listAhead()).toEqual([]);
    expect(await slots().list()).toEqual(['a']);
    await slots().setUse(ahead, { id: 'b', complete: true });
    expect(await slots().listAhead()).toEqual([]);
    expect((await slots().list()).toSorted()).toEqual(['a', 'b']);
    expect(await slots().find('b')).toEqual(ahead);
  });

  it('notices that a sandbox has gone from where it was found last', async () => {
    const one = slots();
    const slot = await one.take({ recipe: 'r', complete: true });
    await one.setUse(slot, { id: 'a', complete: true });
    expect(await one.find('a')).toEqual(slot);
    await slots().setUse(slot, { id: 'b', complete: true });
    expect(await one.find('a')).toBeUndefined();
    expect(await one.find('b')).toEqual(slot);
  });

  it('leaves alone what is refused', async () => {
    const refused: string[] = [];
    const [first, ...others] = await Promise.all(['a', 'b', 'c', 'd'].map((id) => take(id)));
    for (const slot of [first, ...others]) if (slot) await slots().release(slot);
    const taken = await slots().take({ id: 'a', complete: false }, async ({ hostSide }) => {
      const isFree = hostSide !== first?.hostSide;
      if (!isFree) refused.push(hostSide);
      return isFree;
    });
    expect(refused).toEqual([first?.hostSide]);
    expect(others).toContainEqual(taken);
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
    const taken = await Promise.all(['a', 'b', 'c'].map((id) => take(id, watched)));
    expect(taken.map(({ hostSide }) => hostSide)).not.toContain('10.50.0.0');
    expect((await watched.list()).toSorted()).toEqual(['a', 'b', 'c']);
    expect(warned.at(-1)).toMatch(
      `10.50.0.0: an address record ${words === 'cannot be read' ? words : `is of ${words}`}`,
    );
    await expect(take('d', watched)).rejects.toThrow('all 4 address pairs');
  });

  it('sweeps records that were never put into place, but none that may be in the making', async () => {
    for (const name of ['.old', '.new']) await writeFile(join(dir, name), '{}');
    const anHourAgo = Date.now() / 1_000 - 3_600;
    await utimes(join(dir, '.old'), anHourAgo, anHourAgo);
    await slots().sweepUnplaced();
    expect(await readdir(dir)).toEqual(['.new']);
  });
});
