import { Body, Controller, Get, Param, Post, Query } from '@nestjs/common';
import { ApiTags } from '@nestjs/swagger';
import { Access, CurrentHost, type CallingHost } from '../auth/access.js';
import { PageQuery } from '../http/page.dto.js';
import type { Page } from '../http/paging.js';
import { Returns, ReturnsPage } from '../http/returns.decorator.js';
import {
  GuestConfigDto,
  HeartbeatDto,
  HostDto,
  HostInfoDto,
  HostSandboxesDto,
  RegisteredHostDto,
  VerdictsDto,
  VerdictsQueryDto,
} from './host.dto.js';
import { HostService } from './host.service.js';

@ApiTags('hosts')
@Controller('v1/hosts')
export class HostController {
  constructor(private readonly hosts: HostService) {}

  /** The machines that sandboxes run on. */
  @Get()
  @Access('team')
  @ReturnsPage(HostDto)
  list(@Query() query: PageQuery): Promise<Page<HostDto>> {
    return this.hosts.list(query);
  }

  /** Makes a machine known; its token is shown once. */
  @Post('register')
  @Access('registration')
  @Returns(RegisteredHostDto, 201)
  register(@Body() body: HostInfoDto): Promise<RegisteredHostDto> {
    return this.hosts.register(body);
  }

  /** Tells that the calling host lives and what it offers now. */
  @Post('self/heartbeat')
  @Access('host')
  @Returns(HeartbeatDto)
  heartbeat(@CurrentHost() host: CallingHost, @Body() body: HostInfoDto): Promise<HeartbeatDto> {
    return this.hosts.heartbeat(host.hostId, body);
  }

  /** What the calling host may have something of; everything else on it is nobody's. */
  @Get('self/sandboxes')
  @Access('host')
  @Returns(HostSandboxesDto)
  hosted(@CurrentHost() host: CallingHost): Promise<HostSandboxesDto> {
    return this.hosts.hosted(host.hostId);
  }

  /** Whose the things are that the calling host has. */
  @Post('self/verdicts')
  @Access('host')
  @Returns(VerdictsDto)
  verdicts(@CurrentHost() host: CallingHost, @Body() body: VerdictsQueryDto): Promise<VerdictsDto> {
    return this.hosts.verdicts(host.hostId, body.ids);
  }

  /** What the guest of one of the calling host's sandboxes or builds is told. */
  @Get('self/sandboxes/:id/guest-config')
  @Access('host')
  @Returns(GuestConfigDto)
  guestConfig(@CurrentHost() host: CallingHost, @Param('id') id: string): Promise<GuestConfigDto> {
    return this.hosts.guestConfig(host.hostId, id);
  }
}
