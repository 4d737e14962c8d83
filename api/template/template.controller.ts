import { Body, Controller, Get, Header, Param, Post, Query } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import { Access, CurrentCaller, type Caller } from '../auth/access.js';
import { ApiIdempotent, IdempotencyKey } from '../http/idempotency-key.decorator.js';
import { PageQuery } from '../http/page.dto.js';
import type { Page } from '../http/paging.js';
import type { Reply } from '../http/reply.js';
import { Returns, ReturnsPage, ReturnsText } from '../http/returns.decorator.js';
import { waitMsOf, WaitQuery } from '../http/wait.dto.js';
import { TemplateBuildService } from './template-build.service.js';
import { BuildDto, BuildLogQuery, BuildQuery, CreateBuildDto, TemplateDto } from './template.dto.js';
import { TemplateService } from './template.service.js';

@ApiTags('templates')
@Controller('v1/templates')
@Access('team')
export class TemplateController {
  constructor(
    private readonly templates: TemplateService,
    private readonly builds: TemplateBuildService,
  ) {}

  /** Your team's templates and the platform's. */
  @Get()
  @ReturnsPage(TemplateDto)
  list(@CurrentCaller() { teamId }: Caller, @Query() query: PageQuery): Promise<Page<TemplateDto>> {
    return this.templates.list(teamId, query);
  }

  /** Boots a root filesystem once, sets it up and saves it: sandboxes of the template start from there. */
  @Post('builds')
  @ApiIdempotent()
  @Returns(BuildDto, 202, 201)
  build(
    @CurrentCaller() { teamId }: Caller,
    @IdempotencyKey() idempotencyKey: string | null,
    @Query() query: WaitQuery,
    @Body() body: CreateBuildDto,
  ): Promise<Reply<BuildDto>> {
    return this.builds.create({ teamId, idempotencyKey, waitMs: waitMsOf(query) }, body);
  }

  /** Builds, newest first. */
  @Get('builds')
  @ReturnsPage(BuildDto)
  listBuilds(@CurrentCaller() { teamId }: Caller, @Query() query: BuildQuery): Promise<Page<BuildDto>> {
    return this.builds.list(teamId, query);
  }

  @Get('builds/:id')
  @Returns(BuildDto)
  getBuild(@CurrentCaller() { teamId }: Caller, @Param('id') id: string): Promise<BuildDto> {
    return this.builds.get(teamId, id);
  }

  /** What the set-up commands printed. */
  @Get('builds/:id/log')
  @Header('content-type', 'text/plain; charset=utf-8')
  @ReturnsText('The log from `offset` on.')
  buildLog(
    @CurrentCaller() { teamId }: Caller,
    @Param('id') id: string,
    @Query() query: BuildLogQuery,
  ): Promise<string> {
    return this.builds.log(teamId, id, query.offset);
  }

  /** Ends a build that runs; nothing of it is kept but its log. */
  @Post('builds/:id/cancel')
  @Returns(BuildDto, 202)
  cancelBuild(@CurrentCaller() { teamId }: Caller, @Param('id') id: string): Promise<BuildDto> {
    return this.builds.cancel(teamId, id);
  }
}
