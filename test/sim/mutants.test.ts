/**
 * Mutants keep up with the code that they break: test/long runs them, and would find out late.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { MUTANTS } from './mutants.js';

test('each mutant fits one place of the engine, and has a name of its own', () => {
  for (const { name, file, find } of MUTANTS) {
    const source = readFileSync(new URL(`../../src/${file}`, import.meta.url), 'utf8');
    assert.equal(source.split(find).length - 1, 1, `${name}: places in ${file}`);
  }
  assert.equal(new Set(MUTANTS.map(({ name }) => name)).size, MUTANTS.length);
});
