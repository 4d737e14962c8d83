import { setTimeout as delay } from 'node:timers/promises';
import { RotatingLog } from '../../cli/platform/rotating-log.js';
import { describeEnd, Service, type ServiceSpec } from '../../cli/platform/service.js';
import { hasErrno } from '../../host-worker/errno.js';

export const PROCESS_NAMES = ['api', 'control-worker', 'host-worker', 'temporal', 'postgres'] as const;
export type ProcessName = (typeof PROCESS_NAMES)[number];

/** A process that is killed and started again. */
export interface Killable {
  readonly pid: number;
  readonly logFile: string;
  start(): Promise<void>;
  /** SIGKILL to the recorded pid; returns when it is gone. */
  kill(): Promise<void>;
  stop(): Promise<void>;
}

/** What survives a killed parent needs a moment to end, as Postgres' backends do, and keeps a new one from starting. */
const START_ATTEMPTS = 20;
const AGAIN_MS = 250;
/** A supervisor's first pause. */
const BY_ITSELF_MS = 1_000;

/** One process of the platform, kept running like `torpor up` does, and killed on command. */
export class ChaosProcess implements Killable {
  readonly #log: RotatingLog;
  #service: Service | undefined;
  #wanted = false;
  #isOver = false;

  constructor(
    private readonly spec: ServiceSpec,
    logFile: string,
    /** Told when it ended although nobody killed it. */
    private readonly endedByItself: (why: string) => void,
  ) {
    this.#log = new RotatingLog(logFile);
  }

  get pid(): number {
    const pid = this.#service?.pid;
    if (pid === undefined) throw new Error(`${this.spec.name} was never started`);
    return pid;
  }

  get logFile(): string {
    return this.#log.file;
  }

  async start(): Promise<void> {
    this.#wanted = true;
    for (let attempt = 1; ; attempt++) {
      if (this.#isOver) throw new Error(`${this.spec.name} is not started any more: its platform ends`);
      this.#log.write(`--- ${new Date().toISOString()} starting ${this.spec.argv.join(' ')}`);
      const service = new Service(this.spec, this.#log);
      this.#service = service;
      try {
        await service.ready();
        this.#watch(service);
        return;
      } catch (error) {
        await service.stop();
        if (attempt === START_ATTEMPTS) throw error;
        await delay(AGAIN_MS);
      }
    }
  }

  async kill(): Promise<void> {
    this.#wanted = false;
    try {
      process.kill(this.pid, 'SIGKILL');
    } catch (error) {
      // It was about to end by itself.
      if (!hasErrno(error, 'ESRCH')) throw error;
    }
    await this.#service?.exited;
  }

  /** For good: whoever was about to start it again does not. */
  async stop(): Promise<void> {
    this.#isOver = true;
    this.#wanted = false;
    await this.#service?.stop();
    this.#log.close();
  }

  #watch(service: Service): void {
    void service.exited.then(async (end) => {
      if (!this.#wanted || service !== this.#service) return;
      this.endedByItself(`${this.spec.name} ended by itself: ${describeEnd(end)}`);
      await delay(BY_ITSELF_MS);
      if (this.#wanted && service === this.#service) await this.start();
    });
  }
}
