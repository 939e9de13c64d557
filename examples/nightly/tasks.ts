/** What is done every night. */
import { defineTask, defineTasks } from 'millrace';

export const report = defineTask({
  name: 'report.nightly',
  retry: { attempts: 5, min: '1m' },
  run: ({ kind }: { readonly kind: string }) => ({ kind, rows: kind.length }),
});

export default defineTasks({ report });
