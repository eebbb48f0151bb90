/**
 * The few XML documents that S3 answers with: elements and text. It is strict on purpose: what is
 * cut off, nested wrongly or declares entities of its own is not a document, so that half an answer
 * is never taken for a whole one.
 */
export interface XmlElement {
  readonly name: string;
  readonly children: readonly XmlElement[];
  readonly text: string;
}

const maxDepth = 16;
// A tag (slash, name, slash), the XML declaration, a comment, or text up to the next tag.
const tokenPattern =
  /<(\/)?([A-Za-z_][\w.:-]*)(?:\s[^<>]*?)?(\/)?>|<\?xml[^<>]*\?>|<!--[^]*?-->|([^<]+)/y;
const entityPattern = /&(?:#x([0-9a-fA-F]{1,6})|#(\d{1,7})|([a-z]+));/g;
const namedEntities: Readonly<Record<string, string>> = {
  amp: '&',
  lt: '<',
  gt: '>',
  quot: '"',
  apos: "'",
};

interface OpenElement {
  name: string;
  children: XmlElement[];
  text: string;
}

/** The document's root element, or `undefined` when this is not a whole, plain document. */
export function parseXml(document: string): XmlElement | undefined {
  const top: OpenElement = { name: '', children: [], text: '' };
  const stack: OpenElement[] = [top];
  let position = 0;
  while (position < document.length) {
    tokenPattern.lastIndex = position;
    const token = tokenPattern.exec(document);
    if (token === null || !applyToken(stack, token)) return undefined;
    position = tokenPattern.lastIndex;
  }
  const [root, ...others] = top.children;
  const whole = stack.length === 1 && others.length === 0 && top.text.trim() === '';
  return whole ? root : undefined;
}

function applyToken(
  stack: OpenElement[],
  [, close, name, empty, text]: readonly (string | undefined)[],
): boolean {
  const current = stack.at(-1);
  if (current === undefined) return false;
  if (text !== undefined) {
    current.text += decodeEntities(text);
  } else if (close !== undefined) {
    const parent = stack.at(-2);
    if (parent === undefined || current.name !== name) return false;
    stack.pop();
    parent.children.push(current);
  } else if (name !== undefined) {
    const element: OpenElement = { name, children: [], text: '' };
    if (empty !== undefined) current.children.push(element);
    else stack.push(element);
  }
  return stack.length <= maxDepth;
}

function decodeEntities(text: string): string {
  if (!text.includes('&')) return text;
  return text.replace(entityPattern, (whole, hex?: string, decimal?: string, name?: string) => {
    if (name !== undefined) return namedEntities[name] ?? whole;
    const point = hex === undefined ? Number(decimal) : Number.parseInt(hex, 16);
    return point <= 0x10_ffff ? String.fromCodePoint(point) : whole;
  });
}

/** The text of the first child of that name. */
export function childText(element: XmlElement, name: string): string | undefined {
  return element.children.find((child) => child.name === name)?.text;
}
