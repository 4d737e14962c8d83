import { Type } from 'class-transformer';
import {
  ArrayMaxSize,
  IsArray,
  IsInt,
  IsNotEmpty,
  IsObject,
  IsString,
  IsUrl,
  Matches,
  Max,
  MaxLength,
  Min,
  ValidateNested,
} from 'class-validator';
import type { SandboxState } from '../../workflows/contract/states.js';
import type { HostReservation } from './host-load.query.js';
import type { HostEntity } from './host.entity.js';

const MAX_NUMBER = 2 ** 31 - 1;

export class HostDriversDto {
  @IsString()
  @MaxLength(64)
  hypervisor!: string;

  @IsString()
  @MaxLength(64)
  disk!: string;

  @IsString()
  @MaxLength(64)
  network!: string;
}

/** What a host tells about itself when it registers and with every heartbeat. */
export class HostInfoDto {
  /** For people; need not be unique. */
  @IsString()
  @Matches(/^[A-Za-z0-9._-]{1,253}$/, { message: 'name must be a host name: letters, digits, ".", "_", "-"' })
  name!: string;

  @IsString()
  @IsNotEmpty()
  @MaxLength(32)
  arch!: string;

  /** Of the host worker. */
  @IsString()
  @IsNotEmpty()
  @MaxLength(64)
  version!: string;

  /** What it offers to sandboxes. */
  @IsInt()
  @Min(1)
  @Max(MAX_NUMBER)
  vcpus!: number;

  @IsInt()
  @Min(1)
  @Max(MAX_NUMBER)
  memory_mb!: number;

  @IsInt()
  @Min(0)
  @Max(MAX_NUMBER)
  disk_mb!: number;

  /** Where the API reaches the host's data plane. */
  @IsUrl({ protocols: ['http'], require_tld: false, require_protocol: true, require_port: true })
  data_plane_url!: string;

  /** What the API authenticates with there. */
  @IsString()
  @Matches(/^\S{16,256}$/, { message: 'data_plane_token must be 16 to 256 characters without spaces' })
  data_plane_token!: string;

  @IsString()
  @IsNotEmpty()
  @MaxLength(64)
  hypervisor!: string;

  @IsString()
  @IsNotEmpty()
  @MaxLength(128)
  hypervisor_version!: string;

  /** CPU model that guests see; memory snapshots are restored on like models only. */
  @IsString()
  @IsNotEmpty()
  @MaxLength(256)
  cpu!: string;

  @IsObject()
  @ValidateNested()
  @Type(() => HostDriversDto)
  drivers!: HostDriversDto;

  /** Root filesystems that it can boot without a build. */
  @IsArray()
  @ArrayMaxSize(100)
  @IsString({ each: true })
  @MaxLength(128, { each: true })
  images!: string[];
}

export class RegisteredHostDto {
  host_id!: string;

  /** For the header X-Host-Token. Shown once. */
  token!: string;
}

export class HeartbeatDto {
  host_id!: string;
}

export class HostSandboxDto {
  /** Of a sandbox or of a build. */
  id!: string;

  /** `build`: a template build that runs. */
  state!: SandboxState | 'build';

  epoch!: number;

  /** An operation is at work on it. */
  open_operation!: boolean;
}

export class HostSandboxesDto {
  items!: HostSandboxDto[];
}

/** What the guest of a sandbox or build is told after every boot, restore and resume. */
export class GuestConfigDto {
  access_token!: string;

  env!: Record<string, string>;

  template_id!: string;

  user!: string;
}

export class VerdictsQueryDto {
  /** Of sandboxes or builds that the host has something of. */
  @IsArray()
  @ArrayMaxSize(1000)
  @IsString({ each: true })
  @MaxLength(256, { each: true })
  ids!: string[];
}

export class VerdictsDto {
  /** Sandboxes and running builds of this host. */
  live!: string[];

  /** They have ended or live elsewhere: what is left of them on this host is nobody's. */
  ended!: string[];

  /** Never known here: nothing is to be concluded from that. */
  unknown!: string[];
}

export class HostReservedDto {
  vcpus!: number;
  memory_mb!: number;
  sandboxes!: number;
}

export class HostDto {
  id!: string;
  name!: string;

  /** `offline`: no heartbeat for 20 seconds; it gets nothing new. */
  status!: 'online' | 'offline';

  arch!: string;
  version!: string;
  vcpus!: number;
  memory_mb!: number;
  disk_mb!: number;

  /** What is promised to sandboxes and builds. vCPUs may be promised four times over, memory never. */
  reserved!: HostReservedDto;

  hypervisor!: string;
  hypervisor_version!: string;
  cpu!: string;

  /** Driver by port. */
  drivers!: Record<string, string>;

  heartbeat_at!: string;

  /** Since when its sandboxes are `missing`, until it is back and they have been compared. */
  lost_at!: string | null;

  registered_at!: string;
}

export function toHostDto(host: HostEntity, reserved: HostReservation | undefined, online: boolean): HostDto {
  return {
    id: host.id,
    name: host.name,
    status: online ? 'online' : 'offline',
    arch: host.arch,
    version: host.version,
    vcpus: host.vcpus,
    memory_mb: host.memoryMb,
    disk_mb: host.diskMb,
    reserved: {
      vcpus: reserved?.vcpus ?? 0,
      memory_mb: reserved?.memoryMb ?? 0,
      sandboxes: reserved?.sandboxes ?? 0,
    },
    hypervisor: host.hypervisor,
    hypervisor_version: host.hypervisorVersion,
    cpu: host.cpu,
    drivers: host.drivers,
    heartbeat_at: host.heartbeatAt.toISOString(),
    lost_at: host.lostAt?.toISOString() ?? null,
    registered_at: host.registeredAt.toISOString(),
  };
}
