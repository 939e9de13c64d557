/**
 * Where the report of a load goes: `--json` alone prints it instead of the table, `--json <file>` and `--html <file>` write
 * it beside the table.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Arguments } from '../command.js';
import type { ProgressForm } from '../progress.js';

export class Output {
  readonly #json: string | undefined;
  readonly #html: string | undefined;

  constructor({ options }: Arguments) {
    this.#json = options.get('json');
    this.#html = options.get('html');
  }

  /** Whether standard output is for machines. */
  get #isJson(): boolean {
    return this.#json === '';
  }

  get progressForm(): ProgressForm {
    return this.#isJson ? 'json' : 'text';
  }

  /** @param forms - how the report looks; only what is asked for is made */
  write(
    report: unknown,
    forms: { readonly text: () => string; readonly page?: () => string },
  ): void {
    if (this.#json) this.#file(this.#json, `${JSON.stringify(report, null, 2)}\n`);
    if (this.#html && forms.page) this.#file(this.#html, forms.page());
    process.stdout.write(this.#isJson ? `${JSON.stringify(report)}\n` : forms.text());
  }

  #file(name: string, content: string): void {
    const file = path.resolve(name);
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, content);
    process.stderr.write(`wrote ${file}\n`);
  }
}
