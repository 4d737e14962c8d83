import {
  ArrayMaxSize,
  ArrayMinSize,
  IsArray,
  IsBase64,
  IsInt,
  IsOptional,
  IsString,
  Matches,
  Max,
  MaxLength,
  Min,
  MinLength,
} from 'class-validator';
import { IsStringMap } from '../http/is-string-map.js';

const MIB = 1024 * 1024;
const NO_NUL = /^[^\0]*$/;

/** Either `command` or `argv`; at most one of `stdin` and `stdin_base64`. */
export class ExecDto {
  /** Run by `/bin/sh -c`. */
  @IsOptional()
  @IsString()
  @MinLength(1)
  @MaxLength(131_072)
  @Matches(NO_NUL, { message: 'command must hold no NUL character' })
  command?: string;

  /** A program and its arguments, run without a shell. */
  @IsOptional()
  @IsArray()
  @ArrayMinSize(1)
  @ArrayMaxSize(10_000)
  @IsString({ each: true })
  @Matches(NO_NUL, { each: true, message: 'argv must hold no NUL character' })
  argv?: string[];

  /** Working directory. Default: the user's home. */
  @IsOptional()
  @IsString()
  @MaxLength(4096)
  @Matches(NO_NUL, { message: 'cwd must hold no NUL character' })
  cwd?: string;

  /** Added to the sandbox's environment, for this program only. */
  @IsStringMap({ keyPattern: /^[A-Za-z_][A-Za-z0-9_]*$/, maxTotalBytes: 65_536 })
  env: Record<string, string> = {};

  /** Whom it runs as. Default: `user`. */
  @IsOptional()
  @IsString()
  @Matches(/^[a-z_][a-z0-9_-]{0,31}$/, { message: 'user must be a user name: lower-case letters, digits, "_" and "-"' })
  user?: string;

  /** Standard input, as text. Default: none. */
  @IsOptional()
  @IsString()
  stdin?: string;

  /** Standard input that is no text. */
  @IsOptional()
  @IsBase64({}, { message: 'stdin_base64 must be base64 with padding' })
  stdin_base64?: string;

  /** After this long it is killed with everything it started. */
  @IsInt()
  @Min(1)
  @Max(3600)
  timeout_seconds: number = 30;

  /** How much of both streams together is kept; the rest is discarded and `truncated` says so. */
  @IsInt()
  @Min(0)
  @Max(16 * MIB)
  max_output_bytes: number = MIB;
}

export class ExecResultDto {
  /** -1 when a signal ended it. */
  exit_code!: number;

  stdout!: string;
  stderr!: string;

  /** Of both streams: `base64` when either is not UTF-8. */
  encoding!: 'utf-8' | 'base64';

  duration_ms!: number;

  /** Output was discarded: more than `max_output_bytes`, or faster than it could be read. */
  truncated!: boolean;

  /** It was killed at `timeout_seconds`. */
  timed_out!: boolean;
}
