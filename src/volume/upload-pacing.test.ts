import { expect, test } from 'vitest';
import { defaultVolumeSettings } from './settings.ts';
import { isUploadDue, type UploadSituation } from './upload-pacing.ts';

const busy: UploadSituation = {
  ageMs: 1000,
  journalShare: 0.1,
  isShortOfFiles: false,
  isIdle: false,
  isAwaited: false,
};
const due = (change: Partial<UploadSituation>): boolean =>
  isUploadDue({ ...busy, ...change }, defaultVolumeSettings);

test('a young segment waits while clients write and there is room', () => {
  expect(due({})).toBe(false);
});

test.each<[string, Partial<UploadSituation>]>([
  ['clients pause', { isIdle: true }],
  ['somebody waits for the store', { isAwaited: true }],
  ['it is as old as the upload interval', { ageMs: defaultVolumeSettings.uploadIntervalMs }],
  ['the journal fills', { journalShare: 0.6 }],
  ['a journal file would have to be made', { isShortOfFiles: true }],
])('it is uploaded when %s', (_, change) => {
  expect(due(change)).toBe(true);
});
