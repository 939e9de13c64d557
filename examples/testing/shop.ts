/** A service that hands work over: what it needs of millrace is a parameter, so that a test can give it another. */
import type { Client } from 'millrace';
import { sendMail } from './tasks.js';

export class Shop {
  readonly #tasks: Pick<Client, 'submit'>;

  constructor(tasks: Pick<Client, 'submit'>) {
    this.#tasks = tasks;
  }

  /** Welcomes a customer at once, and reminds them a day later. */
  async signUp(to: string): Promise<void> {
    await this.#tasks.submit(sendMail, { to, subject: 'Welcome' });
    await this.#tasks.submit(
      sendMail,
      { to, subject: 'Your basket misses you' },
      { delay: '24h', idempotencyKey: `reminder:${to}` },
    );
  }
}
