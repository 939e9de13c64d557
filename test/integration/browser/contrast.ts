/// <reference lib="dom" />
/** What of a page cannot be read, by the contrasts that WCAG 2.1 wants. Runs in the page, so it is one function that uses nothing else. */

/** @returns a line for each text below 4.5 : 1 and each mark of a chart below 3 : 1 */
export function unreadable(): string[] {
  type Rgb = readonly [red: number, green: number, blue: number];

  const rgb = (text: string): Rgb | undefined => {
    const [red, green, blue, alpha = 1] = (text.match(/[\d.]+/g) ?? []).map(Number);
    return alpha === 0 || red === undefined ? undefined : [red, green!, blue!];
  };
  const luminance = (color: Rgb): number => {
    const [red, green, blue] = color.map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red! + 0.7152 * green! + 0.0722 * blue!;
  };
  const contrast = (a: Rgb, b: Rgb): number => {
    const [dark, light] = [luminance(a), luminance(b)].sort((x, y) => x - y);
    return (light! + 0.05) / (dark! + 0.05);
  };
  const groundOf = (start: Element | null): Rgb => {
    for (let element = start; element !== null; element = element.parentElement) {
      const ground = rgb(getComputedStyle(element).backgroundColor);
      if (ground !== undefined) return ground;
    }
    return [255, 255, 255];
  };

  const found: string[] = [];
  const check = (element: Element, color: string, ground: Rgb, least: number): void => {
    const ink = rgb(color);
    const ratio = ink === undefined ? 1 : contrast(ink, ground);
    if (ratio >= least) return;
    const name = element.getAttribute('class') ?? element.tagName;
    found.push(`${name} '${element.textContent?.trim().slice(0, 30)}': ${ratio.toFixed(2)}`);
  };
  for (const element of document.body.querySelectorAll('*')) {
    const style = getComputedStyle(element);
    const hasText = [...element.childNodes].some(
      ({ nodeType, textContent }) => nodeType === Node.TEXT_NODE && textContent?.trim(),
    );
    const isWritten = hasText && !['title', 'style'].includes(element.tagName.toLowerCase());
    if (isWritten) check(element, style.color, groundOf(element), 4.5);
    if (element.matches('path.series, line.mark'))
      check(element, style.stroke, groundOf(element), 3);
    if (element.matches('.bar')) {
      check(element, style.backgroundColor, groundOf(element.parentElement), 3);
    }
  }
  return found;
}
