import { describe, expect, it } from 'vitest';
import { childText, parseXml } from './s3-xml.ts';

const page =
  '<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="http://s3.amazonaws.com/doc/">' +
  '<IsTruncated>false</IsTruncated><Contents><Key>a&amp;b&#x41;&#66;</Key><Size>7</Size></Contents>' +
  '<Prefix/><Contents><Key>c</Key><Size>0</Size></Contents></ListBucketResult>\n';

describe('parseXml', () => {
  it('reads elements, text and entities', () => {
    const root = parseXml(page);
    expect(root?.name).toBe('ListBucketResult');
    const contents = root?.children.filter(({ name }) => name === 'Contents') ?? [];
    expect(contents.map((child) => childText(child, 'Key'))).toEqual(['a&bAB', 'c']);
    expect(root && childText(root, 'IsTruncated')).toBe('false');
    expect(root && childText(root, 'Prefix')).toBe('');
  });

  it('takes no document that was cut anywhere', () => {
    const end = page.lastIndexOf('>');
    for (let length = 0; length < end; length += 1) {
      expect(parseXml(page.slice(0, length)), `cut at ${length}`).toBeUndefined();
    }
    expect(parseXml(page.slice(0, end + 1))).toBeDefined();
  });

  it.each([
    ['two roots', '<a></a><b></b>'],
    ['wrong nesting', '<a><b></a></b>'],
    ['a closing tag too many', '<a></a></a>'],
    ['text outside', '<a></a>text'],
    ['a declaration of entities', '<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>'],
    ['a page of HTML', '<!doctype html><html><p>Bad gateway</html>'],
    ['something else', '{"error": "no"}'],
    ['endless depth', `${'<a>'.repeat(50)}${'</a>'.repeat(50)}`],
  ])('refuses %s', (_, document) => {
    expect(parseXml(document)).toBeUndefined();
  });

  it('reads a page of a thousand keys', () => {
    const contents = '<Contents><Key>volumes/x/segments/1</Key><Size>8</Size></Contents>'.repeat(
      1000,
    );
    expect(parseXml(`<r>${contents}</r>`)?.children).toHaveLength(1000);
  });
});
