import { Injectable, Logger, type OnApplicationBootstrap, type OnApplicationShutdown } from '@nestjs/common';
import { DataSource } from 'typeorm';
import { API_SILENCE_SECONDS } from './host-lease.query.js';

const BEAT_MS = 5_000;

/** Says that this API listens, and notes from when on hosts can be heard again after nobody did. */
@Injectable()
export class ControlPlaneBeat implements OnApplicationBootstrap, OnApplicationShutdown {
  private readonly log = new Logger(ControlPlaneBeat.name);
  private timer: NodeJS.Timeout | undefined;
  private silent = false;
  private stopped = false;

  constructor(private readonly dataSource: DataSource) {}

  /** The first one before the first request: a heartbeat must not find a clock that stands still. */
  async onApplicationBootstrap(): Promise<void> {
    await this.beatOrTell();
  }

  onApplicationShutdown(): void {
    this.stopped = true;
    clearTimeout(this.timer);
  }

  async beat(): Promise<void> {
    await this.dataSource.query(
      `UPDATE control_plane SET beat_at = now(),
         up_since = CASE WHEN beat_at < now() - make_interval(secs => $1) THEN now() ELSE up_since END`,
      [API_SILENCE_SECONDS],
    );
  }

  /** A database that is away is told once; the next beat after it gives every host a whole lease. */
  private async beatOrTell(): Promise<void> {
    try {
      await this.beat();
      this.silent = false;
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      if (!this.silent) this.log.warn(`cannot note that this API listens; hosts are not judged meanwhile: ${why}`);
      this.silent = true;
    }
    if (!this.stopped) this.timer = setTimeout(() => void this.beatOrTell(), BEAT_MS).unref();
  }
}
