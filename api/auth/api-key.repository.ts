import { Injectable } from '@nestjs/common';
import { DataSource } from 'typeorm';
import { TeamEntity } from '../team/team.entity.js';
import { ApiKeyEntity } from './api-key.entity.js';
import { hashToken } from './tokens.js';

const PREFIX_CHARACTERS = 12;

/** Whom an API key speaks for. */
export interface KeyHolder {
  teamId: string;
  operator: boolean;
}

@Injectable()
export class ApiKeyRepository {
  constructor(private readonly dataSource: DataSource) {}

  /** Of a valid key. Also notes the use, at most once a minute. */
  async holderOf(key: string): Promise<KeyHolder | null> {
    const rows = await this.dataSource.query<{ team_id: string; operator: boolean; stale: boolean }[]>(
      `SELECT team_id, operator, coalesce(last_used_at < now() - interval '1 minute', true) AS stale
       FROM api_keys WHERE hash = $1 AND revoked_at IS NULL`,
      [hashToken(key)],
    );
    const [found] = rows;
    if (found?.stale)
      await this.dataSource.query('UPDATE api_keys SET last_used_at = now() WHERE hash = $1', [hashToken(key)]);
    return found ? { teamId: found.team_id, operator: found.operator } : null;
  }

  /** The team and its key, which is an operator's, exist afterwards; running it again changes nothing. */
  async ensureTeamKey(teamId: string, teamName: string, key: string): Promise<void> {
    await this.dataSource.transaction(async (manager) => {
      const team = manager.createQueryBuilder().insert().into(TeamEntity);
      await team.values({ id: teamId, name: teamName }).orIgnore().execute();
      const hash = hashToken(key);
      const apiKey = manager.createQueryBuilder().insert().into(ApiKeyEntity);
      await apiKey
        .values({
          ...{ id: hash.slice(0, 20), teamId, name: 'bootstrap', operator: true },
          ...{ prefix: key.slice(0, PREFIX_CHARACTERS), hash },
        })
        .orIgnore()
        .execute();
    });
  }
}
