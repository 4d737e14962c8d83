import { Injectable } from '@nestjs/common';
import { DataSource } from 'typeorm';
import { HostRepository } from '../host/host.repository.js';
import { Reply } from '../http/reply.js';
import { TemporalCalls } from '../temporal/temporal-calls.js';
import { VERSION } from '../version.js';
import type { CheckDto, HealthDto } from './health.dto.js';

const POSTGRES_DEADLINE_MS = 2_000;

@Injectable()
export class HealthService {
  constructor(
    private readonly dataSource: DataSource,
    private readonly temporal: TemporalCalls,
    private readonly hosts: HostRepository,
  ) {}

  async check(): Promise<Reply<HealthDto>> {
    const [postgres, outage] = await Promise.all([this.postgres(), this.temporal.outage()]);
    const temporal: CheckDto = outage === null ? { ok: true } : { ok: false, reason: outage };
    const hosts = postgres.ok ? await this.onlineHosts() : { ok: false, reason: 'not known while Postgres is down' };
    const body: HealthDto = {
      status: postgres.ok && temporal.ok && hosts.ok ? 'ok' : 'degraded',
      version: VERSION,
      checks: { postgres, temporal, hosts },
    };
    // Hosts register through this very process, so it is ready before there is one.
    return new Reply(postgres.ok && temporal.ok ? 200 : 503, body);
  }

  private async postgres(): Promise<CheckDto> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`no answer within ${POSTGRES_DEADLINE_MS} ms`)), POSTGRES_DEADLINE_MS);
    });
    try {
      await Promise.race([this.dataSource.query('SELECT 1'), late]);
      return { ok: true };
    } catch (error) {
      return { ok: false, reason: messageOf(error) };
    } finally {
      clearTimeout(timer);
    }
  }

  private async onlineHosts(): Promise<CheckDto> {
    try {
      const { online, known } = await this.hosts.countOnline();
      return online > 0
        ? { ok: true }
        : { ok: false, reason: known === 0 ? 'no host is registered' : `none of ${known} hosts is online` };
    } catch (error) {
      return { ok: false, reason: messageOf(error) };
    }
  }
}

function messageOf(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(messageOf).join('; ');
  return error instanceof Error ? error.message : String(error);
}
