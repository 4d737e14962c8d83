import { Inject, Injectable, type CanActivate, type ExecutionContext } from '@nestjs/common';
import { Reflector } from '@nestjs/core';
import type { FastifyRequest } from 'fastify';
import { DomainError } from '../../workflows/contract/errors.js';
import { CONFIG, type Config } from '../config.js';
import { HostRepository } from '../host/host.repository.js';
import { ACCESS_POLICY, type AccessPolicy, type AuthenticatedRequest } from './access.js';
import { ApiKeyRepository, type KeyHolder } from './api-key.repository.js';
import { sameSecret } from './tokens.js';

const API_KEY = /^tpr_[0-9a-f]{40}$/;

/** The only place that decides who may call a route. */
@Injectable()
export class AccessGuard implements CanActivate {
  constructor(
    private readonly reflector: Reflector,
    private readonly keys: ApiKeyRepository,
    private readonly hosts: HostRepository,
    @Inject(CONFIG) private readonly config: Pick<Config, 'registrationToken'>,
  ) {}

  async canActivate(context: ExecutionContext): Promise<boolean> {
    const request = context.switchToHttp().getRequest<AuthenticatedRequest>();
    const targets = [context.getHandler(), context.getClass()];
    const policy = this.reflector.getAllAndOverride<AccessPolicy | undefined>(ACCESS_POLICY, targets);
    switch (policy) {
      case 'public':
        return true;
      case 'team':
        request.caller = await this.caller(request);
        return true;
      case 'operator':
        request.caller = await this.operator(request);
        return true;
      case 'host':
        request.callingHost = await this.host(request);
        return true;
      case 'registration':
        this.registration(request);
        return true;
      case undefined:
        throw new DomainError('forbidden', 'this route declares no access policy, so nobody may call it');
    }
  }

  private async operator(request: FastifyRequest): Promise<KeyHolder> {
    const caller = await this.caller(request);
    if (caller.operator) return caller;
    throw new DomainError(
      'forbidden',
      'this is for those who operate the platform, and the API key is not one of theirs',
    );
  }

  private async caller({ headers }: FastifyRequest): Promise<KeyHolder> {
    const bearer = /^Bearer (.+)$/i.exec(headers.authorization ?? '')?.[1];
    const key = header(headers['x-api-key']) ?? bearer;
    if (key === undefined) throw new DomainError('unauthorized', 'the header X-API-Key is missing');
    const holder = API_KEY.test(key) ? await this.keys.holderOf(key) : null;
    if (holder === null) throw new DomainError('unauthorized', 'the API key is not valid: it is unknown or revoked');
    return holder;
  }

  private async host({ headers }: FastifyRequest): Promise<{ hostId: string }> {
    const token = header(headers['x-host-token']);
    if (token === undefined) throw new DomainError('unauthorized', 'the header X-Host-Token is missing');
    const hostId = await this.hosts.idOfToken(token);
    if (hostId === null) throw new DomainError('unauthorized', 'the host token is not valid: register the host again');
    return { hostId };
  }

  private registration({ headers }: FastifyRequest): void {
    const { registrationToken } = this.config;
    if (registrationToken === null) {
      throw new DomainError('forbidden', 'no host can register: TORPOR_REGISTRATION_TOKEN of the API is not set');
    }
    const token = header(headers['x-registration-token']);
    if (token === undefined || !sameSecret(token, registrationToken)) {
      throw new DomainError('unauthorized', 'the header X-Registration-Token is missing or wrong');
    }
  }
}

function header(value: string | string[] | undefined): string | undefined {
  return typeof value === 'string' ? value : undefined;
}
