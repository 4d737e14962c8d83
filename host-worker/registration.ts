import { setTimeout as sleep } from 'node:timers/promises';
import { DomainError } from '../workflows/contract/errors.js';
import type { ControlPlaneClient, HostInfo } from './control-plane.client.js';
import type { CredentialsFile, HostCredentials } from './host-credentials.js';

/** Between attempts as long as the control plane is away, so that it hears of this host soon after it is back. */
const RETRY_MS = 1_000;
/** Of the time it has been away: after a long outage nobody minds seconds, and hosts must not all ask every second. */
const RETRY_SHARE = 0.1;

interface RegistrationLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export interface RegistrationOptions {
  client: ControlPlaneClient;
  file: CredentialsFile;
  credentials: HostCredentials;
  registrationToken: string | undefined;
  /** Read anew for every heartbeat. */
  info: () => Promise<HostInfo>;
  log: RegistrationLog;
  heartbeatMs: number;
  /** Shortest pause between attempts to reach a control plane that is away. */
  retryMs?: number;
}

/** The host was registered anew under another id: its queue and its journal belong to the old one. */
export class HostReplaced extends Error {}

/**
 * This machine's place in the control plane. It says that the host lives, and where
 * its data plane is, and goes on trying as long as the API is away.
 */
export class Registration {
  #beating: Promise<void> | undefined;
  readonly #stop = new AbortController();

  constructor(private readonly options: RegistrationOptions) {}

  get token(): string | undefined {
    return this.options.credentials.registered?.token;
  }

  /**
   * The host's id. A host that was registered before starts without the API, because
   * its operations may go on; a new one waits for it.
   */
  async enter(): Promise<string> {
    const { credentials, log } = this.options;
    if (credentials.registered) {
      try {
        await this.#heartbeat();
      } catch (err) {
        // Nothing of this process belongs to the old id yet.
        if (err instanceof HostReplaced) log.warn({ err }, 'this machine is another host now');
        else if (isRefusal(err)) throw err;
        else log.warn({ err }, 'the control plane cannot be reached; this host starts with what it knows');
      }
      return credentials.registered.hostId;
    }
    for (const away = new Outage(); ;) {
      try {
        return await this.#register();
      } catch (err) {
        if (isRefusal(err)) throw err;
        const retryInMs = this.#retryIn(away);
        log.warn({ err, retryInMs }, 'the control plane cannot be reached; this host is not registered yet');
        await sleep(retryInMs, undefined, { signal: this.#stop.signal });
      }
    }
  }

  /**
   * Heartbeats until `leave`, the first one at once: since `enter` the API may have come
   * back, and it must know where this process serves. `replaced` is told when the control
   * plane has made this another host.
   */
  keep(replaced: (err: HostReplaced) => void): void {
    this.#beating ??= this.#keep(replaced);
  }

  async leave(): Promise<void> {
    this.#stop.abort();
    await this.#beating;
  }

  async #keep(replaced: (err: HostReplaced) => void): Promise<void> {
    const { log, heartbeatMs } = this.options;
    const { signal } = this.#stop;
    let away: Outage | undefined;
    while (!signal.aborted) {
      let pauseMs = heartbeatMs;
      try {
        await this.#heartbeat();
        if (away) log.info({}, 'the control plane is back');
        away = undefined;
      } catch (err) {
        if (signal.aborted) return;
        if (err instanceof HostReplaced) return replaced(err);
        const first = away === undefined;
        away ??= new Outage();
        if (isRefusal(err)) {
          log.error({ err }, 'the control plane refuses this host');
        } else {
          pauseMs = this.#retryIn(away);
          if (first) log.warn({ err }, 'the control plane cannot be reached; heartbeats go on');
        }
      }
      await sleep(pauseMs, undefined, { signal }).catch(() => undefined);
    }
  }

  #retryIn(away: Outage): number {
    const { heartbeatMs, retryMs = RETRY_MS } = this.options;
    return Math.min(Math.max(retryMs, Math.round(away.ms * RETRY_SHARE)), heartbeatMs);
  }

  async #heartbeat(): Promise<void> {
    const { client, info, registrationToken } = this.options;
    try {
      await client.heartbeat(await info(), this.#stop.signal);
    } catch (err) {
      if (!(err instanceof DomainError) || err.code !== 'unauthorized') throw err;
      if (registrationToken === undefined) {
        throw new DomainError(
          'unauthorized',
          `${err.message}; set TORPOR_REGISTRATION_TOKEN and restart to register this host anew`,
          {},
          { cause: err },
        );
      }
      await this.#register();
    }
  }

  async #register(): Promise<string> {
    const { client, credentials, file, info, log, registrationToken } = this.options;
    if (registrationToken === undefined) {
      throw new DomainError(
        'unauthorized',
        'this host is not registered: set TORPOR_REGISTRATION_TOKEN for its first start',
      );
    }
    const before = credentials.registered?.hostId;
    credentials.registered = await client.register(await info(), registrationToken);
    await file.save(credentials);
    const { hostId } = credentials.registered;
    log.info({ hostId }, 'host registered');
    if (before !== undefined && before !== hostId) {
      throw new HostReplaced(
        `the control plane did not know host ${before} any more and registered this machine as ${hostId}; start the worker again`,
      );
    }
    return hostId;
  }
}

/** A time during which the control plane cannot be reached. */
class Outage {
  readonly #since = performance.now();

  get ms(): number {
    return performance.now() - this.#since;
  }
}

/** Retrying does not help: somebody must set a token. */
function isRefusal(err: unknown): boolean {
  return (
    err instanceof HostReplaced ||
    (err instanceof DomainError &&
      (err.code === 'unauthorized' || err.code === 'forbidden' || err.code === 'invalid_request'))
  );
}
