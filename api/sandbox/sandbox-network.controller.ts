import { Body, Controller, Get, Param, Put, Query } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import { Access, CurrentCaller, type Caller } from '../auth/access.js';
import { ApiIdempotent, IdempotencyKey } from '../http/idempotency-key.decorator.js';
import type { Reply } from '../http/reply.js';
import { Returns } from '../http/returns.decorator.js';
import { waitMsOf, WaitQuery } from '../http/wait.dto.js';
import { NetworkPolicyDto, SandboxNetworkDto } from './network.dto.js';
import { SandboxNetworkService } from './sandbox-network.service.js';
import { SandboxDto } from './sandbox.dto.js';
import { SandboxService } from './sandbox.service.js';

@ApiTags('sandboxes')
@Controller('v1/sandboxes/:id/network')
@Access('team')
export class SandboxNetworkController {
  constructor(
    private readonly networks: SandboxNetworkService,
    private readonly sandboxes: SandboxService,
  ) {}

  /** What the sandbox may send, and what passed its interface so far. */
  @Get()
  @Returns(SandboxNetworkDto)
  get(@CurrentCaller() { teamId }: Caller, @Param('id') id: string): Promise<SandboxNetworkDto> {
    return this.networks.get(teamId, id);
  }

  /** Replaces the whole policy of a running or paused sandbox; what is left out is cleared. Connections that it forbids end. */
  @Put()
  @ApiIdempotent()
  @Returns(SandboxDto, 202, 200)
  replace(
    @CurrentCaller() { teamId }: Caller,
    @IdempotencyKey() idempotencyKey: string | null,
    @Query() query: WaitQuery,
    @Param('id') id: string,
    @Body() body: NetworkPolicyDto,
  ): Promise<Reply<SandboxDto>> {
    return this.sandboxes.changeNetwork({ teamId, idempotencyKey, waitMs: waitMsOf(query) }, id, body);
  }
}
