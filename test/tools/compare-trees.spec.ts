import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { compareTrees } from './compare-trees.js';

describe('compareTrees', () => {
  let root: string;

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'torpor-compare-trees-'));
    for (const file of ['actual/same/a', 'expected/same/a']) {
      await mkdir(join(root, file, '..'), { recursive: true });
      await writeFile(join(root, file), 'same');
    }
  });

  afterEach(() => rm(root, { recursive: true }));

  const compare = () => compareTrees(join(root, 'actual'), join(root, 'expected'));

  it('finds nothing in equal trees', async () => {
    expect(await compare()).toEqual([]);
  });

  it('names what is stale, missing and changed', async () => {
    await writeFile(join(root, 'actual/stale'), '');
    await writeFile(join(root, 'expected/missing'), '');
    await writeFile(join(root, 'actual/same/a'), 'changed');
    expect(await compare()).toEqual(['stale: nothing generates it any more', 'missing: missing', 'same/a: differs']);
  });

  it('takes an absent folder for an empty one', async () => {
    expect(await compareTrees(join(root, 'absent'), join(root, 'expected'))).toEqual(['same/a: missing']);
  });
});
