import { createClient, type Client, type Interceptor } from '@connectrpc/connect';
import { createConnectTransport } from '@connectrpc/connect-node';
import { CliError } from '../cli-error.js';
import type { CliConfig } from '../config.js';
import { Process } from '../../proto/gen/process/process_pb.js';
import { EXIT } from '../exit-codes.js';
import { findApi, RestClient } from '../rest-client.js';
import { fullSandboxId } from '../sandbox-id.js';
import { TerminalInput } from '../terminal-input.js';

export interface ShellOptions {
  user?: string;
  cwd?: string;
  env?: Record<string, string>;
}

/**
 * A terminal in the sandbox: bytes go through the API's edge to the guest agent, never
 * through a workflow. Ends with the exit code of the shell.
 */
export async function openShell(config: CliConfig, id: string, words: string[], options: ShellOptions): Promise<void> {
  if (!process.stdin.isTTY || !process.stdout.isTTY) {
    throw new CliError('a shell needs a terminal on both sides', {
      suggestion: 'run a command without one: torpor sandbox exec ID -- …',
      exitCode: EXIT.usage,
    });
  }
  const target = findApi(config);
  const sandbox = await new RestClient(target).sandbox(await fullSandboxId(new RestClient(target), id));
  if (sandbox.state !== 'running' || sandbox.access_token === undefined) {
    throw new CliError(`sandbox ${sandbox.id} is ${sandbox.state}, and a shell needs it running`, {
      suggestion: sandbox.state === 'paused' ? `torpor sandbox resume ${sandbox.id}` : undefined,
      exitCode: EXIT.conflict,
      code: 'state_conflict',
    });
  }
  const guest = connectToAgent(target.url, sandbox.id, sandbox.access_token, options.user);
  process.exitCode = await runTerminal(guest, words, options);
}

function connectToAgent(
  baseUrl: string,
  sandboxId: string,
  accessToken: string,
  user: string | undefined,
): Client<typeof Process> {
  const headers: Interceptor = (next) => (request) => {
    request.header.set('E2b-Sandbox-Id', sandboxId);
    request.header.set('X-Access-Token', accessToken);
    // The agent takes the user as the name of basic authentication.
    if (user !== undefined) request.header.set('Authorization', `Basic ${Buffer.from(`${user}:`).toString('base64')}`);
    return next(request);
  };
  return createClient(Process, createConnectTransport({ baseUrl, httpVersion: '1.1', interceptors: [headers] }));
}

async function runTerminal(guest: Client<typeof Process>, words: string[], options: ShellOptions): Promise<number> {
  const [cmd, ...args] = words.length > 0 ? words : ['/bin/bash', '-l'];
  const closed = new AbortController();
  const stream = guest.start(
    {
      process: {
        cmd: cmd ?? '/bin/bash',
        args,
        envs: { TERM: 'xterm-256color', ...options.env },
        ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      },
      pty: { size: windowSize() },
    },
    { signal: closed.signal },
  );
  let terminal: TerminalInput | undefined;
  let ended: number | undefined;
  try {
    for await (const { event } of stream) {
      if (event?.event.case === 'start') terminal = attach(guest, event.event.value.pid);
      if (event?.event.case === 'data' && event.event.value.output.case === 'pty')
        process.stdout.write(event.event.value.output.value);
      if (event?.event.case === 'end') ended = event.event.value.exitCode;
    }
  } catch (error) {
    throw new CliError(`the connection to the shell broke: ${(error as Error).message}`, {
      exitCode: EXIT.unreachable,
      cause: error,
    });
  } finally {
    terminal?.close();
    closed.abort();
  }
  if (ended === undefined) throw new CliError('the connection to the shell broke', { exitCode: EXIT.unreachable });
  return ended < 0 ? 128 : ended;
}

function attach(guest: Client<typeof Process>, pid: number): TerminalInput {
  const process_ = { selector: { case: 'pid', value: pid } } as const;
  return new TerminalInput({
    input: async (bytes) => {
      await guest.sendInput({ process: process_, input: { input: { case: 'pty', value: bytes } } });
    },
    resize: async () => {
      await guest.update({ process: process_, pty: { size: windowSize() } });
    },
  });
}

function windowSize(): { cols: number; rows: number } {
  return { cols: process.stdout.columns, rows: process.stdout.rows };
}
