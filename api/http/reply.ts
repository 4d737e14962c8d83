import { Injectable, type CallHandler, type ExecutionContext, type NestInterceptor } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import { map, type Observable } from 'rxjs';

/** An answer whose status depends on what became of the request. */
export class Reply<T> {
  constructor(
    readonly status: number,
    readonly body: T,
    /** The operation had been asked for before, under the same Idempotency-Key. */
    readonly replayed = false,
  ) {}
}

@Injectable()
export class ReplyInterceptor implements NestInterceptor {
  intercept(context: ExecutionContext, next: CallHandler<unknown>): Observable<unknown> {
    return next.handle().pipe(
      map((value) => {
        if (!(value instanceof Reply)) return value;
        const response = context.switchToHttp().getResponse<FastifyReply>();
        void response.status(value.status);
        if (value.replayed) void response.header('idempotency-replayed', 'true');
        return value.body;
      }),
    );
  }
}
