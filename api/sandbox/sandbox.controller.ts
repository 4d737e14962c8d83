import { Body, Controller, Delete, Get, Param, Post, Query } from '@nestjs/common';
import { ApiBody, ApiTags } from '@nestjs/swagger';
import { Access, CurrentCaller, type Caller } from '../auth/access.js';
import { ApiIdempotent, IdempotencyKey } from '../http/idempotency-key.decorator.js';
import type { Page } from '../http/paging.js';
import type { Reply } from '../http/reply.js';
import { Returns, ReturnsPage } from '../http/returns.decorator.js';
import { waitMsOf, WaitQuery } from '../http/wait.dto.js';
import { CreateSandboxDto, RecoverSandboxDto, ResumeSandboxDto, SandboxDto, SandboxQuery } from './sandbox.dto.js';
import { SandboxService, type Asked } from './sandbox.service.js';

@ApiTags('sandboxes')
@Controller('v1/sandboxes')
@Access('team')
export class SandboxController {
  constructor(private readonly sandboxes: SandboxService) {}

  /** Makes a sandbox: 202 while it starts; with `wait=true` 201 once it runs. */
  @Post()
  @ApiIdempotent()
  @Returns(SandboxDto, 202, 201)
  create(
    @CurrentCaller() caller: Caller,
    @IdempotencyKey() key: string | null,
    @Query() query: WaitQuery,
    @Body() body: CreateSandboxDto,
  ): Promise<Reply<SandboxDto>> {
    return this.sandboxes.create(asked(caller, key, query), body);
  }

  /** Sandboxes, newest first. */
  @Get()
  @ReturnsPage(SandboxDto)
  list(@CurrentCaller() { teamId }: Caller, @Query() query: SandboxQuery): Promise<Page<SandboxDto>> {
    return this.sandboxes.list(teamId, query);
  }

  @Get(':id')
  @Returns(SandboxDto)
  get(@CurrentCaller() { teamId }: Caller, @Param('id') id: string): Promise<SandboxDto> {
    return this.sandboxes.get(teamId, id);
  }

  /** Ends a sandbox and deletes everything of it, whatever is going on with it. */
  @Delete(':id')
  @ApiIdempotent()
  @Returns(SandboxDto, 202, 200)
  destroy(
    @CurrentCaller() caller: Caller,
    @IdempotencyKey() key: string | null,
    @Query() query: WaitQuery,
    @Param('id') id: string,
  ): Promise<Reply<SandboxDto>> {
    return this.sandboxes.destroy(asked(caller, key, query), id);
  }

  /** Saves a running sandbox's memory to disk and frees everything but its files. */
  @Post(':id/pause')
  @ApiIdempotent()
  @Returns(SandboxDto, 202, 200)
  pause(
    @CurrentCaller() caller: Caller,
    @IdempotencyKey() key: string | null,
    @Query() query: WaitQuery,
    @Param('id') id: string,
  ): Promise<Reply<SandboxDto>> {
    return this.sandboxes.pause(asked(caller, key, query), id);
  }

  /** Lets a paused sandbox go on where it stood. One that is being resumed already is joined. */
  @Post(':id/resume')
  @ApiIdempotent()
  @ApiBody({ type: ResumeSandboxDto, required: false })
  @Returns(SandboxDto, 202, 200)
  resume(
    @CurrentCaller() caller: Caller,
    @IdempotencyKey() key: string | null,
    @Query() query: WaitQuery,
    @Param('id') id: string,
    @Body() body: ResumeSandboxDto,
  ): Promise<Reply<SandboxDto>> {
    return this.sandboxes.resume(asked(caller, key, query), id, body);
  }

  /** Finds out what became of a sandbox and puts it where it can go on: running if it lives, else booted from its disk. */
  @Post(':id/recover')
  @ApiIdempotent()
  @ApiBody({ type: RecoverSandboxDto, required: false })
  @Returns(SandboxDto, 202, 200)
  recover(
    @CurrentCaller() caller: Caller,
    @IdempotencyKey() key: string | null,
    @Query() query: WaitQuery,
    @Param('id') id: string,
    @Body() body: RecoverSandboxDto,
  ): Promise<Reply<SandboxDto>> {
    return this.sandboxes.recover(asked(caller, key, query), id, body);
  }
}

function asked({ teamId }: Caller, idempotencyKey: string | null, query: WaitQuery): Asked {
  return { teamId, idempotencyKey, waitMs: waitMsOf(query) };
}
