import type { SandboxDto } from '../../api/sandbox/sandbox.dto.js';
import { insist, type Answered, type Request } from '../../test/chaos/caller.js';
import { ChaosPlatform } from '../../test/chaos/chaos-platform.js';
import { createRequest, destroyRequest, sandboxOf, verbRequest } from '../../test/chaos/stories.js';
import type { SimulatedTimes } from '../../test/simulator/simulated-hypervisor.js';
import type { Page } from '../../test/support/e2e-api.js';
import { clearMachine } from './machine-clean-up.js';
import { Refused, type Claim, type Orchestrator } from './orchestrator.js';

/** How long one request is repeated before the caller looks at the sandbox again. */
const INSIST_MS = 20_000;
const ACCEPTED = 202;

/** The whole platform: API, workers, Temporal and Postgres, of which the host worker is the process on the machine. */
export class TorporOrchestrator implements Orchestrator {
  readonly name = 'Torpor';
  readonly host: Orchestrator['host'];
  readonly #requests = new Map<string, string>();
  #sent = 0;

  private constructor(readonly platform: ChaosPlatform) {
    const { home, runDirectory, ledger } = platform;
    this.host = { data: home.hostDirectory, run: runDirectory, ledger };
  }

  static async start(times: SimulatedTimes, note: (text: string) => void): Promise<TorporOrchestrator> {
    return new TorporOrchestrator(await ChaosPlatform.start({ qemu: false, cluster: false, times }, note));
  }

  async create(name: string, timeoutSeconds: number): Promise<string> {
    const id = sandboxOf(name);
    this.#requests.set(id, name);
    try {
      await this.#ask(createRequest(name, { timeout_seconds: timeoutSeconds }), id);
      return id;
    } catch (err) {
      // Whatever was answered, or not: the sandbox says how its create ended.
      if (err instanceof Refused || (await this.claim(id)) !== 'error') throw err;
      throw new Refused((err as Error).message, id);
    }
  }

  async pause(id: string): Promise<void> {
    await this.#ask(verbRequest('pause', id, this.#key(id)), id);
  }

  async resume(id: string): Promise<void> {
    await this.#ask({ ...verbRequest('resume', id, this.#key(id)), body: { timeout_seconds: 0 } }, id);
  }

  async destroy(id: string): Promise<void> {
    await this.#ask(destroyRequest(id, this.#key(id)), id);
  }

  async claim(id: string): Promise<Claim> {
    const { status, body } = await this.platform.api.ask<SandboxDto>('GET', `/v1/sandboxes/${id}`);
    if (status === 404) return 'unknown';
    if (status !== 200) throw new Error(`GET ${id}: ${status}`);
    return claimOf(body);
  }

  async claims(): Promise<Map<string, Claim>> {
    const claims = new Map<string, Claim>();
    let cursor: string | null = '';
    while (cursor !== null) {
      const from: string = cursor === '' ? '' : `&cursor=${encodeURIComponent(cursor)}`;
      const page: Page<SandboxDto> = await this.platform.api.get(`/v1/sandboxes?limit=200${from}`);
      for (const sandbox of page.items) claims.set(sandbox.id, claimOf(sandbox));
      cursor = page.next_cursor;
    }
    return claims;
  }

  exec(id: string, command: string): Promise<string> {
    return this.platform.api.sh(id, command);
  }

  requestOf(id: string): string {
    return this.#requests.get(id) ?? id;
  }

  async killAndRestart(): Promise<void> {
    const worker = this.platform.process('host-worker');
    await worker.kill();
    await worker.start();
  }

  async close(): Promise<void> {
    await this.platform.stop();
    await clearMachine(this.host);
    await this.platform.removeFiles();
  }

  async #ask(request: Request, id: string): Promise<void> {
    const answer = await insist(this.platform.api, request, AbortSignal.timeout(INSIST_MS));
    if (answer.status >= 400) throw new Refused(`${request.path}: ${told(answer)}`, id);
    // It goes on without this caller, who looks at the sandbox next.
    if (answer.status === ACCEPTED) throw new Error(`${request.path}: still under way`);
  }

  /** Each request of a caller is one of its own, however often it has to be sent. */
  #key(id: string): string {
    this.#sent += 1;
    return `${id}-${this.#sent}`;
  }
}

function told({ status, body }: Answered): string {
  return `${status} ${JSON.stringify(body)}`;
}

function claimOf({ state }: SandboxDto): Claim {
  switch (state) {
    case 'running':
    case 'paused':
    case 'error':
      return state;
    case 'stopped':
      return 'unknown';
    default:
      return 'busy';
  }
}
