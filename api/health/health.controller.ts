import { Controller, Get } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import { Access } from '../auth/access.js';
import type { Reply } from '../http/reply.js';
import { Returns } from '../http/returns.decorator.js';
import { VERSION } from '../version.js';
import { HealthDto, LiveDto } from './health.dto.js';
import { HealthService } from './health.service.js';

@ApiTags('health')
@Controller('health')
@Access('public')
export class HealthController {
  constructor(private readonly health: HealthService) {}

  /** The process runs and answers. */
  @Get('live')
  @Returns(LiveDto)
  live(): LiveDto {
    return { status: 'ok', version: VERSION };
  }

  /** Requests can be served: Postgres and Temporal answer. */
  @Get('ready')
  @Returns(HealthDto, 200, 503)
  ready(): Promise<Reply<HealthDto>> {
    return this.health.check();
  }

  /** Everything that the platform needs, with the reason for what is down. */
  @Get()
  @Returns(HealthDto, 200, 503)
  all(): Promise<Reply<HealthDto>> {
    return this.health.check();
  }
}
