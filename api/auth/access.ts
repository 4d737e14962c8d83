import { applyDecorators, createParamDecorator, SetMetadata, type ExecutionContext } from '@nestjs/common';
import { ApiSecurity } from '@nestjs/swagger';
import type { FastifyRequest } from 'fastify';

/**
 * Who may call a route. Every route declares exactly one; one that declares none is
 * refused by the guard and fails a test.
 *
 * - `team`: a team's API key; the handler sees that team's resources only
 * - `operator`: the same, of somebody who operates the platform
 * - `host`: a registered host's own token
 * - `registration`: the token with which new hosts register
 * - `public`: anybody
 */
export type AccessPolicy = 'team' | 'operator' | 'host' | 'registration' | 'public';

export const ACCESS_POLICY = 'torpor:access';

export const SECURITY_SCHEMES = {
  team: {
    type: 'apiKey',
    in: 'header',
    name: 'X-API-Key',
    description: "A team's API key; also accepted as `Authorization: Bearer`.",
  },
  operator: {
    type: 'apiKey',
    in: 'header',
    name: 'X-API-Key',
    description: 'An API key of somebody who operates the platform, like the first one that `torpor up` makes.',
  },
  host: {
    type: 'apiKey',
    in: 'header',
    name: 'X-Host-Token',
    description: 'The token that a host got when it registered.',
  },
  registration: {
    type: 'apiKey',
    in: 'header',
    name: 'X-Registration-Token',
    description: 'What new hosts register with.',
  },
} as const;

export function Access(policy: AccessPolicy): ClassDecorator & MethodDecorator {
  const security = policy === 'public' ? [] : [ApiSecurity(policy)];
  return applyDecorators(SetMetadata(ACCESS_POLICY, policy), ...security);
}

/** The team that an API key belongs to. */
export interface Caller {
  teamId: string;
}

export interface CallingHost {
  hostId: string;
}

export type AuthenticatedRequest = FastifyRequest & { caller?: Caller; callingHost?: CallingHost };

export const CurrentCaller = createParamDecorator((_: unknown, context: ExecutionContext): Caller => {
  const { caller } = context.switchToHttp().getRequest<AuthenticatedRequest>();
  if (!caller) throw new Error("the route is not declared @Access('team')");
  return caller;
});

export const CurrentHost = createParamDecorator((_: unknown, context: ExecutionContext): CallingHost => {
  const { callingHost } = context.switchToHttp().getRequest<AuthenticatedRequest>();
  if (!callingHost) throw new Error("the route is not declared @Access('host')");
  return callingHost;
});
