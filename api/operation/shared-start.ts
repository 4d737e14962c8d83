/**
 * Lets callers who want the same thing at the same time share one call. What came too late for it makes one of its own.
 */
export class SharedStart<T> {
  readonly #underWay = new Map<string, Promise<T>>();

  join(key: string, call: () => Promise<T>): Promise<T> {
    const underWay = this.#underWay.get(key);
    if (underWay) return underWay;
    const made = call().finally(() => this.#underWay.delete(key));
    this.#underWay.set(key, made);
    return made;
  }
}
