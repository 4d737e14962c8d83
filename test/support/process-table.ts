import { readFile, readdir, readlink } from 'node:fs/promises';

/** Programs that run for a sandbox. Nothing else on a test machine starts them. */
const SANDBOX_PROGRAM = /^(qemu-system-|qemu-img|qemu-nbd|cloud-hyperviso|envd)/;

interface Process {
  pid: number;
  parent: number;
  /** As the kernel has it: at most 15 characters. */
  program: string;
  /** With the pid it identifies a process; a pid alone is given out again. */
  startedAt: string;
  commandLine: string;
}

/** The processes that are the platform's: by program, by mark, or by descent from this one. */
export async function readProcesses(marks: readonly string[]): Promise<Map<string, string>> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  const all = (await Promise.all(pids.map(readProcess))).filter((process) => process !== undefined);
  const parents = new Map(all.map(({ pid, parent }) => [pid, parent]));
  const ours = new Map<string, string>();
  for (const found of all) {
    if (found.pid === process.pid) continue;
    const belongs =
      SANDBOX_PROGRAM.test(found.program) || descends(found.pid, parents) || (await isMarked(found, marks));
    if (belongs) ours.set(`${found.pid} ${found.startedAt}`, describe(found));
  }
  return ours;
}

async function readProcess(pid: number): Promise<Process | undefined> {
  // It may end between being listed and being read.
  const [stat, command] = await Promise.all([contents(`/proc/${pid}/stat`), contents(`/proc/${pid}/cmdline`)]);
  // The program's name stands in parentheses and may itself hold spaces and parentheses.
  const parsed = /^\d+ \((.*)\) (.*)$/s.exec(stat);
  if (parsed === null) return undefined;
  const [, program = '', rest = ''] = parsed;
  const fields = rest.trim().split(' ');
  const commandLine = command.split('\0').join(' ').trim();
  return { pid, program, parent: Number(fields[1]), startedAt: fields[19] ?? '', commandLine };
}

function descends(pid: number, parents: ReadonlyMap<number, number>): boolean {
  for (let parent = parents.get(pid); parent !== undefined; parent = parents.get(parent)) {
    if (parent === process.pid) return true;
  }
  return false;
}

async function isMarked({ pid, commandLine }: Process, marks: readonly string[]): Promise<boolean> {
  if (marks.length === 0) return false;
  const environment = await contents(`/proc/${pid}/environ`);
  const folder = await readlink(`/proc/${pid}/cwd`).catch(() => '');
  return marks.some((mark) => [commandLine, environment, folder].some((text) => text.includes(mark)));
}

function contents(path: string): Promise<string> {
  return readFile(path, 'utf8').catch(() => '');
}

function describe({ pid, parent, program, commandLine }: Process): string {
  return `${pid} (parent ${parent}): ${commandLine === '' ? `[${program}]` : commandLine}`;
}
