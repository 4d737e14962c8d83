import 'reflect-metadata';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import type { NestFastifyApplication } from '@nestjs/platform-fastify';
import { CONTROLLERS, SERVICES } from './api.module.js';
import { createAdapter } from './http/http-server.js';
import { createOpenApiDocument } from './http/openapi-document.js';

/** The routes without anything behind them: describing them needs neither database nor Temporal. */
@Module({ controllers: CONTROLLERS, providers: SERVICES.map((provide) => ({ provide, useValue: {} })) })
class RoutesModule {}

const app = await NestFactory.create<NestFastifyApplication>(
  RoutesModule,
  createAdapter(() => null),
  { logger: false },
);
await app.init();
const text = `${JSON.stringify(createOpenApiDocument(app), null, 2)}\n`;
await app.close();
const file = join(process.cwd(), 'docs', 'openapi.json');
await writeFile(file, text);
process.stdout.write(`wrote ${file}\n`);
