import {
  chmodSync,
  lstatSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname } from 'node:path';

/** What an installation finds of something, and what it does about it. */
export type Finding = 'there' | 'new' | 'changed';

/** Something on the machine that must be as the installation wants it. */
export interface SystemFile {
  path: string;
  find(): Finding;
  /** Whole or not at all, for whoever reads it meanwhile. */
  write(): void;
}

export function systemFile(path: string, content: string, mode: number): SystemFile {
  return {
    path,
    find: () => compare(readOrNothing(path), content),
    write: () => {
      mkdirSync(dirname(path), { recursive: true });
      const fresh = `${path}.torpor-new`;
      writeFileSync(fresh, content, { mode });
      chmodSync(fresh, mode);
      renameSync(fresh, path);
    },
  };
}

export function systemLink(path: string, target: string): SystemFile {
  return {
    path,
    find: () => compare(linkOrNothing(path), target),
    write: () => {
      mkdirSync(dirname(path), { recursive: true });
      const fresh = `${path}.torpor-new`;
      rmSync(fresh, { force: true });
      symlinkSync(target, fresh);
      renameSync(fresh, path);
    },
  };
}

function compare(found: string | undefined, wanted: string): Finding {
  if (found === undefined) return 'new';
  return found === wanted ? 'there' : 'changed';
}

export function readOrNothing(path: string): string | undefined {
  return absentAsNothing(() => readFileSync(path, 'utf8'));
}

function linkOrNothing(path: string): string | undefined {
  return absentAsNothing(() => (lstatSync(path).isSymbolicLink() ? readlinkSync(path) : ''));
}

function absentAsNothing(read: () => string): string | undefined {
  try {
    return read();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
