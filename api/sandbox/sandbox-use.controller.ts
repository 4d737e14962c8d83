import { Body, Controller, Get, Header, Param, Post, Query } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import { Access, CurrentCaller, type Caller } from '../auth/access.js';
import { ExecDto, ExecResultDto } from '../exec/exec.dto.js';
import { ExecService } from '../exec/exec.service.js';
import { PageQuery } from '../http/page.dto.js';
import type { Page } from '../http/paging.js';
import { Returns, ReturnsPage, ReturnsText } from '../http/returns.decorator.js';
import { SandboxUseService } from './sandbox-use.service.js';
import { ConsoleQuery, PingDto, SandboxDto, SandboxEventDto, SetTimeoutDto } from './sandbox.dto.js';

@ApiTags('sandboxes')
@Controller('v1/sandboxes/:id')
@Access('team')
export class SandboxUseController {
  constructor(
    private readonly sandboxes: SandboxUseService,
    private readonly programs: ExecService,
  ) {}

  /** Sets the timeout, counted from now. Of a paused sandbox: for its next resume. */
  @Post('timeout')
  @Returns(SandboxDto)
  setTimeout(
    @CurrentCaller() { teamId }: Caller,
    @Param('id') id: string,
    @Body() body: SetTimeoutDto,
  ): Promise<SandboxDto> {
    return this.sandboxes.setTimeout(teamId, id, body);
  }

  /** Counts as use: the sandbox lives on for its whole timeout from now. */
  @Post('ping')
  @Returns(PingDto)
  ping(@CurrentCaller() { teamId }: Caller, @Param('id') id: string): Promise<PingDto> {
    return this.sandboxes.ping(teamId, id);
  }

  /** Runs a program to its end. Whatever it exits with, the answer is 200. */
  @Post('exec')
  @Returns(ExecResultDto)
  exec(@CurrentCaller() { teamId }: Caller, @Param('id') id: string, @Body() body: ExecDto): Promise<ExecResultDto> {
    return this.programs.exec(teamId, id, body);
  }

  /** What happened to it, oldest first. */
  @Get('events')
  @ReturnsPage(SandboxEventDto)
  events(
    @CurrentCaller() { teamId }: Caller,
    @Param('id') id: string,
    @Query() query: PageQuery,
  ): Promise<Page<SandboxEventDto>> {
    return this.sandboxes.events(teamId, id, query);
  }

  /** The guest's serial console, from its host. */
  @Get('console')
  @Header('content-type', 'text/plain; charset=utf-8')
  @ReturnsText('The last bytes of the console.')
  console(@CurrentCaller() { teamId }: Caller, @Param('id') id: string, @Query() query: ConsoleQuery): Promise<string> {
    return this.sandboxes.console(teamId, id, query.max_bytes);
  }
}
