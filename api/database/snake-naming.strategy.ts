import { DefaultNamingStrategy } from 'typeorm';

/** Columns are named as SQL names things, properties as TypeScript does. */
export class SnakeNamingStrategy extends DefaultNamingStrategy {
  override columnName(propertyName: string, customName: string | undefined): string {
    return customName ?? propertyName.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  }
}
