/** Text into HTML. */

export function escaped(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}

/**
 * A table with a heading row; the first column is text, the others are numbers. Scrolls by itself where it is too wide.
 * Nothing of no rows.
 */
export function htmlTable(rows: readonly (readonly string[])[]): string {
  const [head, ...body] = rows;
  if (head === undefined) return '';
  const cells = (tag: string, row: readonly string[]): string =>
    row.map((cell) => `<${tag}>${escaped(cell)}</${tag}>`).join('');
  const lines = body.map(([name = '', ...rest]) => {
    return `<tr><th scope="row">${escaped(name)}</th>${cells('td', rest)}</tr>`;
  });
  return `<div class="scroll" tabindex="0"><table><thead><tr>${cells('th', head)}</tr></thead><tbody>${lines.join('')}</tbody></table></div>`;
}
