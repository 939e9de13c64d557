/** TypeScript as a tree, for rules about what stands in the sources. */
import { parse } from '@swc/core';

export type SyntaxNode = Record<string, unknown>;

/** Shows every node of a source text, parents first. */
export async function visitSyntax(source: string, look: (node: SyntaxNode) => void): Promise<void> {
  visit(await parse(source, { syntax: 'typescript', target: 'es2022' }), look);
}

export function isSyntaxNode(value: unknown): value is SyntaxNode {
  return typeof value === 'object' && value !== null;
}

function visit(value: unknown, look: (node: SyntaxNode) => void): void {
  if (!isSyntaxNode(value)) return;
  look(value);
  for (const child of Object.values(value)) visit(child, look);
}
