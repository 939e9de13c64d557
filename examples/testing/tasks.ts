/** The tasks of a small shop: a welcome mail, and a reminder that gives up politely. */
import { defineTask, defineTasks } from 'millrace';

/** What the tasks need of the world; tests put something else in its place. */
export const mailer: { send(to: string, subject: string): Promise<void> } = {
  async send(to, subject) {
    console.log(`to ${to}: ${subject}`);
  },
};

export const sendMail = defineTask({
  name: 'mail.send',
  retry: { attempts: 3, min: '1m', jitter: 'none' },
  async run(input: { to: string; subject: string }) {
    await mailer.send(input.to, input.subject);
  },
});

export default defineTasks({ sendMail });
