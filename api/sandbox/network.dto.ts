import { Type } from 'class-transformer';
import {
  ArrayMaxSize,
  IsArray,
  IsBoolean,
  IsIn,
  IsInt,
  IsObject,
  IsOptional,
  Max,
  Min,
  ValidateNested,
} from 'class-validator';
import type { Destination, NetworkCounters, NetworkPolicy } from '../../workflows/contract/network-policy.js';
import { IsCidr, IsPorts, MAX_DESTINATIONS, MAX_TX_MBPS } from './network-rules.js';

class DestinationDto {
  /** IPv4 network, such as `10.0.0.0/8`, or one address. */
  @IsCidr()
  cidr!: string;

  /** One port or a range such as `8000-8100`; all when absent. */
  @IsOptional()
  @IsPorts()
  ports?: string;

  /** Both when absent. */
  @IsOptional()
  @IsIn(['tcp', 'udp'])
  protocol?: 'tcp' | 'udp';
}

const EACH = { each: true, message: '$property must be a list of {"cidr", "ports"?, "protocol"?}' };

class NetworkRulesDto {
  /** What goes out whatever else is said; at most 64. */
  @IsArray()
  @ArrayMaxSize(MAX_DESTINATIONS)
  @IsObject(EACH)
  @ValidateNested({ each: true })
  @Type(() => DestinationDto)
  allow: DestinationDto[] = [];

  /** What does not go out, unless `allow` names it; at most 64. */
  @IsArray()
  @ArrayMaxSize(MAX_DESTINATIONS)
  @IsObject(EACH)
  @ValidateNested({ each: true })
  @Type(() => DestinationDto)
  deny: DestinationDto[] = [];

  /** Whether names can be asked for (port 53), wherever; null: as everything else. */
  @IsOptional()
  @IsBoolean()
  dns: boolean | null = null;

  /** Limit of what it sends, megabits per second; null: none. */
  @IsOptional()
  @IsInt()
  @Min(1)
  @Max(MAX_TX_MBPS)
  tx_mbps: number | null = null;
}

/** What a guest may send. Never: to its host, other guests, link-local addresses (cloud metadata), or by IPv6. */
export class NetworkPolicyDto extends NetworkRulesDto {
  /** Whether everything goes out that neither `allow`, `deny` nor `dns` speaks of. */
  @IsBoolean()
  egress!: boolean;
}

export class CreateNetworkDto extends NetworkRulesDto {
  /** Whether everything goes out that neither `allow`, `deny` nor `dns` speaks of. Default: `egress` of the sandbox. */
  @IsOptional()
  @IsBoolean()
  egress?: boolean;
}

/** Since its network was made: a pause ends it, a resume makes another. */
export class NetworkCountersDto {
  sent_bytes!: number;
  sent_packets!: number;
  received_bytes!: number;
  received_packets!: number;

  /** Packets of the guest that the policy held back. */
  denied_packets!: number;
}

export class SandboxNetworkDto {
  policy!: NetworkPolicyDto;

  counters!: NetworkCountersDto | null;

  /** Why there are no counters. */
  counters_note!: string | null;
}

export function toNetworkPolicy({ allow, deny, dns, tx_mbps: tx }: NetworkRulesDto, egress: boolean): NetworkPolicy {
  return {
    egress,
    ...(allow.length > 0 ? { allow: allow.map(toDestination) } : {}),
    ...(deny.length > 0 ? { deny: deny.map(toDestination) } : {}),
    ...(dns === null ? {} : { dns }),
    ...(tx === null ? {} : { txMegabitsPerSecond: tx }),
  };
}

export function toNetworkPolicyDto(policy: NetworkPolicy): NetworkPolicyDto {
  const { egress, allow = [], deny = [], dns = null, txMegabitsPerSecond = null } = policy;
  return {
    egress,
    allow: allow.map(toDestination),
    deny: deny.map(toDestination),
    dns,
    tx_mbps: txMegabitsPerSecond,
  };
}

export function toNetworkCountersDto(counters: NetworkCounters): NetworkCountersDto {
  return {
    sent_bytes: counters.sentBytes,
    sent_packets: counters.sentPackets,
    received_bytes: counters.receivedBytes,
    received_packets: counters.receivedPackets,
    denied_packets: counters.deniedPackets,
  };
}

/** Plain, and without what was not said. */
function toDestination({ cidr, ports, protocol }: Destination | DestinationDto): Destination {
  return { cidr, ...(ports == null ? {} : { ports }), ...(protocol == null ? {} : { protocol }) };
}
