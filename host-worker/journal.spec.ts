import { appendFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals';
import { FileJournal } from './journal.js';
import { formatRecord } from './journal-records.js';

const step = (epoch: number, name = 'startVm') => ({ sandboxId: 's1', epoch, opId: `op${epoch}`, step: name });
const STALE = { code: 'stale_operation' };

let dir: string;
let warnings: string[];

beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'journal-'));
  warnings = [];
});

afterEach(() => rm(dir, { recursive: true }));

function opened(hostId = 'h1'): Promise<FileJournal> {
  return FileJournal.open(dir, hostId, { warn: (_, message) => warnings.push(message) });
}

describe('the journal of steps', () => {
  it('gives a recorded result, also after a restart', async () => {
    const journal = await opened();
    expect(await journal.begin(step(1))).toEqual({ done: false });
    await journal.done(step(1), { bytes: 7 }, false);
    expect(await journal.begin(step(1))).toEqual({ done: true, result: { bytes: 7 } });
    expect(await (await opened()).begin(step(1))).toEqual({ done: true, result: { bytes: 7 } });
  });

  it('lets a step that began and did not end begin again', async () => {
    await (await opened()).begin(step(1));
    expect(await (await opened()).begin(step(1))).toEqual({ done: false });
  });

  it('refuses lower epochs once a higher one was seen, also after a restart', async () => {
    const journal = await opened();
    await journal.begin(step(2));
    await expect(journal.begin(step(1))).rejects.toMatchObject(STALE);
    await expect((await opened()).begin(step(1))).rejects.toMatchObject(STALE);
  });

  it('refuses a closed epoch but repeats what it recorded, and takes the next one', async () => {
    const journal = await opened();
    await journal.begin(step(1));
    await journal.done(step(1), 'x', true);
    for (const it of [journal, await opened()]) {
      await expect(it.begin(step(1, 'killVm'))).rejects.toMatchObject(STALE);
      expect(await it.begin(step(1))).toEqual({ done: true, result: 'x' });
    }
    expect(await journal.begin(step(2, 'killVm'))).toEqual({ done: false });
  });

  it('keeps one operation only', async () => {
    const journal = await opened();
    await journal.begin(step(1));
    await journal.done(step(1), 'x'.repeat(10_000), true);
    await journal.begin(step(2));
    expect((await readFile(join(dir, 's1.jsonl'))).length).toBeLessThan(500);
  });

  it('takes a torn last line for not written, and goes on behind it', async () => {
    const journal = await opened();
    await journal.begin(step(1));
    await journal.done(step(1), 'kept', false);
    await appendFile(join(dir, 's1.jsonl'), '0123456789abcdef {"type":"done","epo');
    const again = await opened();
    expect(warnings).toEqual([expect.stringContaining('torn')]);
    expect(await again.begin(step(1))).toEqual({ done: true, result: 'kept' });
    await again.begin(step(1, 'killVm'));
    await again.done(step(1, 'killVm'), null, true);
    warnings = [];
    expect((await opened()).find('s1')).toMatchObject({ epoch: 1, closed: true });
    expect(warnings).toEqual([]);
  });

  it('survives a cut at every byte of its file', async () => {
    const journal = await opened();
    await journal.begin(step(3));
    await journal.done(step(3), 'r', true);
    const path = join(dir, 's1.jsonl');
    const whole = await readFile(path);
    const headEnd = whole.indexOf('\n') + 1;
    for (let length = headEnd; length < whole.length; length += 1) {
      await writeFile(path, whole.subarray(0, length));
      expect((await opened()).find('s1')?.closed ?? false).toBe(false);
    }
  });

  it('sets a damaged file aside, keeps its fence, and does not mind for others', async () => {
    const journal = await opened();
    await journal.begin(step(4));
    await journal.done(step(4), 'r', true);
    await journal.begin({ ...step(1), sandboxId: 's2' });
    const path = join(dir, 's1.jsonl');
    const lines = (await readFile(path, 'utf8')).split('\n');
    await writeFile(path, [lines[0], lines[1], 'damage', lines[2], ''].join('\n'));
    const again = await opened();
    expect(warnings).toEqual([expect.stringContaining('set aside')]);
    expect((await readdir(dir)).filter((name) => name.includes('.corrupt-'))).toHaveLength(1);
    await expect(again.begin(step(3))).rejects.toMatchObject(STALE);
    expect(await again.begin(step(5))).toEqual({ done: false });
    expect(again.find('s2')).toMatchObject({ epoch: 1 });
  });

  it('sets aside what is no journal at all', async () => {
    await writeFile(join(dir, 's1.jsonl'), 'hello\nworld\n');
    const journal = await opened();
    expect(warnings).toHaveLength(1);
    expect(journal.entries()).toEqual([]);
    expect(await journal.begin(step(1))).toEqual({ done: false });
  });

  it('sets aside what it cannot read, and serves its sandbox and the others all the same', async () => {
    await (await opened()).begin({ ...step(1), sandboxId: 's2' });
    // What root cannot open is rare; a directory cannot be read by anybody.
    await mkdir(join(dir, 's1.jsonl'));
    const journal = await opened();
    expect(warnings).toEqual([expect.stringContaining('cannot be read and is set aside')]);
    expect((await readdir(dir)).filter((name) => name.includes('.unreadable-'))).toHaveLength(1);
    expect(journal.ids()).toEqual(['s2']);
    expect(await journal.begin(step(1))).toEqual({ done: false });
    expect((await opened()).epochOf('s1')).toBe(1);
  });

  it('sets aside what another version wrote, with its fence', async () => {
    const lines = [
      { type: 'head' as const, version: 2, sandboxId: 's1', hostId: 'h1' },
      { type: 'begin' as const, epoch: 6, opId: 'op6', step: 'startVm', at: 1 },
    ];
    await writeFile(join(dir, 's1.jsonl'), lines.map(formatRecord).join(''));
    const journal = await opened();
    expect(warnings).toEqual([expect.stringContaining('set aside')]);
    await expect(journal.begin(step(5))).rejects.toMatchObject(STALE);
    expect(journal.epochOf('s1')).toBe(6);
  });

  it('knows which sandboxes are its own, and nothing of those that were only refused', async () => {
    await (await opened()).begin(step(3));
    const other = await opened('h2');
    await other.begin({ ...step(1), sandboxId: 's2' });
    await expect(other.begin(step(2))).rejects.toMatchObject(STALE);
    expect([other.ids().toSorted(), other.isOwn('s1'), other.isOwn('s2'), other.isOwn('s3')]).toEqual([
      ['s1', 's2'],
      false,
      true,
      false,
    ]);
    expect(other.epochOf('s3')).toBeUndefined();
  });

  it('remembers as which host it took a sandbox', async () => {
    await (await opened('h1')).begin(step(1));
    expect((await opened('h2')).find('s1')).toMatchObject({ hostId: 'h1' });
  });

  it('forgets a sandbox for good', async () => {
    const journal = await opened();
    await journal.begin(step(1));
    await journal.forget('s1');
    expect((await opened()).entries()).toEqual([]);
  });

  it('counts a step as not recorded when its line could not be written', async () => {
    const journal = await opened();
    await journal.begin(step(1));
    await rm(dir, { recursive: true });
    await expect(journal.done(step(1), 'r', false)).rejects.toThrow();
    dir = await mkdtemp(join(tmpdir(), 'journal-'));
  });
});
