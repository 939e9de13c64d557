/**
 * What the service in server.ts does in the background. Worker threads load this module too.
 */
import { defineTask, defineTasks } from 'millrace';

export const countWords = defineTask({
  name: 'text.count-words',
  run(text: string): { words: number; distinct: number } {
    const words = text.toLowerCase().match(/\p{L}+/gu) ?? [];
    return { words: words.length, distinct: new Set(words).size };
  },
});

export default defineTasks({ countWords });
