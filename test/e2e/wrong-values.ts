import { WRONG_TEXT } from './route-cases.js';

/** The part of an OpenAPI document that says what is right. */
export interface Schema {
  $ref?: string;
  /** A reference beside a description. */
  allOf?: Schema[];
  /** A list, where null is one of them. */
  type?: string | string[];
  enum?: unknown[];
  minimum?: number;
  maximum?: number;
  maxLength?: number;
  pattern?: string;
  additionalProperties?: unknown;
  items?: Schema;
  properties?: Record<string, Schema>;
  required?: string[];
}

export interface Parameter {
  name: string;
  in: string;
  schema: Schema;
}

export interface Route {
  security?: Record<string, unknown>[];
  parameters?: Parameter[];
  requestBody?: { content: { 'application/json': { schema: Schema } } };
}

export interface Document {
  paths: Record<string, Record<string, Route>>;
  components: { schemas: Record<string, Schema> };
}

export function resolved(document: Document, schema: Schema): Schema {
  const name = schema.$ref?.split('/').at(-1);
  if (name === undefined) return schema;
  const found = document.components.schemas[name];
  if (!found) throw new Error(`the document has no schema ${name}`);
  return found;
}

/** Values that a field of a body cannot have: of another type, out of its limits, none of its words. */
export function wrongValues(schema: Schema): unknown[] {
  return [...ofAnotherType(schema), ...outOfLimits(schema), null].filter((value) => value !== undefined);
}

function ofAnotherType({ type: types, items, $ref, allOf }: Schema): unknown[] {
  const type = [types].flat().find((each) => each !== 'null');
  switch ($ref === undefined && allOf === undefined ? type : 'object') {
    case 'string':
      return [17, true, ['a'], { a: 'b' }];
    case 'integer':
      return ['17', 1.5, true, 'many', [1]];
    case 'boolean':
      return ['true', 1];
    case 'array':
      return ['a', 17, [items?.type === 'string' ? 17 : 'a']];
    case 'object':
      return ['a', 17];
    default:
      throw new Error(`nobody has said what a wrong ${type ?? 'value without a type'} is`);
  }
}

function outOfLimits({ enum: words, minimum, maximum, maxLength, pattern }: Schema): unknown[] {
  return [
    ...(words ? ['nonsense'] : []),
    ...(minimum === undefined ? [] : [minimum - 1]),
    ...(maximum === undefined ? [] : [maximum + 1]),
    ...(maxLength === undefined ? [] : ['a'.repeat(maxLength + 1)]),
    ...(pattern === undefined ? [] : ['\n']),
  ];
}

/** The same for what stands in an address, where everything is text. */
export function wrongParameters({ name, schema }: Parameter): string[] {
  const limits = outOfLimits(schema).map(String);
  if (schema.type === 'integer') return ['many', '1.5', ...limits];
  if (schema.enum) return limits;
  const text = WRONG_TEXT[name];
  if (text === undefined) throw new Error(`WRONG_TEXT has nothing for ${name}`);
  return [...limits, ...text];
}
