import type { INestApplication } from '@nestjs/common';
import { DocumentBuilder, SwaggerModule, type OpenAPIObject } from '@nestjs/swagger';
import { SECURITY_SCHEMES } from '../auth/access.js';
import { VERSION } from '../version.js';

export function createOpenApiDocument(app: INestApplication): OpenAPIObject {
  const builder = new DocumentBuilder()
    .setOpenAPIVersion('3.1.0')
    .setTitle('Torpor')
    .setVersion(VERSION)
    .setDescription(
      'Linux microVMs with a durable lifecycle. Lifecycle requests answer 202 at once; with `wait=true` when the operation has ended. ' +
        '`/v1/capsules` is another name of `/v1/sandboxes`.',
    );
  for (const [name, scheme] of Object.entries(SECURITY_SCHEMES)) builder.addApiKey(scheme, name);
  const document = SwaggerModule.createDocument(app, builder.build(), {
    operationIdFactory: (controller, method) => `${controller.replace(/Controller$/, '')}_${method}`,
  });
  removeGuessedAnswers(document);
  return toJsonSchema(document) as OpenAPIObject;
}

/** The compiler plugin adds the status that a method usually has; ours are declared, and described. */
function removeGuessedAnswers(document: OpenAPIObject): void {
  for (const path of Object.values(document.paths)) {
    for (const operation of [path.get, path.post, path.put, path.delete]) {
      const answers = operation?.responses ?? {};
      for (const [status, answer] of Object.entries(answers)) {
        if (answer && 'description' in answer && answer.description === '') delete answers[status];
      }
    }
  }
}

type Schema = Record<string, unknown>;

/**
 * What the generator writes, as OpenAPI 3.1 means it: null is one of the types, every
 * number of this API is whole, and what has a default need not be sent. The order of a
 * TypeScript union is the compiler's whim, so values are sorted.
 */
function toJsonSchema(node: unknown): unknown {
  if (Array.isArray(node)) return node.map(toJsonSchema);
  if (typeof node !== 'object' || node === null) return node;
  const schema: Schema = Object.fromEntries(Object.entries(node).map(([key, value]) => [key, toJsonSchema(value)]));
  if (schema['type'] === 'number') schema['type'] = 'integer';
  if (Array.isArray(schema['type'])) {
    schema['type'] = schema['type'].map((type) => (type === 'number' ? 'integer' : (type as unknown)));
  }
  if (Array.isArray(schema['enum'])) schema['enum'] = schema['enum'].map(String).toSorted((a, b) => (a < b ? -1 : 1));
  if (Array.isArray(schema['required']))
    schema['required'] = schema['required'].filter((name) => !hasDefault(schema, name));
  return withNull(schema);
}

function hasDefault({ properties }: Schema, name: unknown): boolean {
  const property = (properties as Record<string, Schema> | undefined)?.[String(name)];
  return property !== undefined && 'default' in property;
}

function withNull(schema: Schema): Schema {
  if (typeof schema['nullable'] !== 'boolean') return schema;
  const { nullable, description, ...rest } = schema;
  const told = description === undefined ? {} : { description };
  if (!nullable) return { ...told, ...rest };
  if (typeof rest['type'] !== 'string') return { ...told, anyOf: [rest, { type: 'null' }] };
  const choices = Array.isArray(rest['enum']) ? { enum: [...rest['enum'], null] } : {};
  return { ...told, ...rest, type: [rest['type'], 'null'], ...choices };
}

/** A page of the document that works without any network but ours, and the document itself. */
export function serveOpenApi(app: INestApplication): void {
  SwaggerModule.setup('docs', app, () => createOpenApiDocument(app), {
    jsonDocumentUrl: 'openapi.json',
    raw: ['json'],
    customSiteTitle: 'Torpor API',
  });
}
