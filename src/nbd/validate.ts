import type { BlockDevice } from '../base/block-device.ts';
import { command, commandFlag, type Dialect, type ErrorName, type Request } from './wire.ts';

/** Why a request is not carried out: what the client is told. */
export interface Refusal {
  readonly error: ErrorName;
  readonly message: string;
}

/** What of the session the answer depends on. */
export interface RequestRules {
  readonly device: BlockDevice;
  readonly dialect: Dialect;
  /** How many metadata contexts were selected for this export. */
  readonly contextCount: number;
  readonly maximumRequestBytes: number;
}

const refuse = (error: ErrorName, message: string): Refusal => ({ error, message });

const refusals = {
  command: refuse('EINVAL', 'the command is unknown'),
  flags: refuse('EINVAL', 'a command flag is unknown, or not for this command'),
  payload: refuse('EINVAL', 'this command takes no payload'),
  noPayload: refuse('EINVAL', 'a write needs the payload-length flag with extended headers'),
  readOnly: refuse('EPERM', 'the export is read-only'),
  readPastEnd: refuse('EINVAL', 'the request ends past the end of the export'),
  writePastEnd: refuse('ENOSPC', 'the request ends past the end of the export'),
  readTooLong: refuse('EOVERFLOW', 'the read is longer than the maximum payload'),
  simpleReadTooLong: refuse('EINVAL', 'the read is longer than the maximum payload'),
  writeTooLong: refuse('EINVAL', 'the write is longer than the maximum payload'),
  flushRange: refuse('EINVAL', 'a flush has neither offset nor length'),
  noContext: refuse('EINVAL', 'no metadata context was negotiated for this export'),
  emptyStatus: refuse('EINVAL', 'a block status needs a length'),
  slowZero: refuse('ENOTSUP', 'this range cannot be zeroed faster than by writing'),
} as const;

/**
 * Checks a request before its payload is taken; allocates nothing. The size of the device is asked
 * each time, since it may have grown. DISC is for the caller, and so are the bytes of a block
 * status payload.
 */
export function validateRequest(request: Request, rules: RequestRules): Refusal | undefined {
  // FUA is valid on every command (document, "Command flags").
  const flags = request.flags & ~commandFlag.fua;
  switch (request.command) {
    case command.read:
      return validateRead(request, rules, flags);
    case command.write:
      return validateWrite(request, rules, flags);
    case command.flush:
      if (flags !== 0) return refuseFlags(rules, flags);
      return request.offset === 0 && request.lengthBytes === 0 ? undefined : refusals.flushRange;
    case command.trim:
      if (flags !== 0) return refuseFlags(rules, flags);
      if (rules.device.readOnly) return refusals.readOnly;
      return pastEnd(request, rules) ? refusals.readPastEnd : undefined;
    case command.cache:
      if (flags !== 0) return refuseFlags(rules, flags);
      return pastEnd(request, rules) ? refusals.readPastEnd : undefined;
    case command.writeZeroes:
      return validateWriteZeroes(request, rules, flags);
    case command.blockStatus:
      return validateBlockStatus(request, rules, flags);
    default:
      return refusals.command;
  }
}

/** The refusal of a status request whose effect length came in its payload. */
export function validateStatusRange(
  offset: number,
  lengthBytes: number,
  device: BlockDevice,
): Refusal | undefined {
  if (lengthBytes === 0) return refusals.emptyStatus;
  return offset + lengthBytes > device.sizeBytes ? refusals.readPastEnd : undefined;
}

/** Whether it is refused for nothing but the end of the device, which may have moved. */
export function isPastEnd(refusal: Refusal): boolean {
  return refusal === refusals.readPastEnd || refusal === refusals.writePastEnd;
}

function pastEnd(request: Request, rules: RequestRules): boolean {
  return request.offset + request.lengthBytes > rules.device.sizeBytes;
}

function refuseFlags(rules: RequestRules, flags: number): Refusal {
  const onlyPayload = rules.dialect === 'extended' && flags === commandFlag.payloadLength;
  return onlyPayload ? refusals.payload : refusals.flags;
}

function validateRead(request: Request, rules: RequestRules, flags: number): Refusal | undefined {
  if (flags !== 0 && (flags !== commandFlag.df || rules.dialect === 'simple')) {
    return refuseFlags(rules, flags);
  }
  if (pastEnd(request, rules)) return refusals.readPastEnd;
  if (request.lengthBytes <= rules.maximumRequestBytes) return undefined;
  return rules.dialect === 'simple' ? refusals.simpleReadTooLong : refusals.readTooLong;
}

function validateWrite(request: Request, rules: RequestRules, flags: number): Refusal | undefined {
  const expected = rules.dialect === 'extended' ? commandFlag.payloadLength : 0;
  if (flags !== expected) {
    return rules.dialect === 'extended' && flags === 0 ? refusals.noPayload : refusals.flags;
  }
  if (rules.device.readOnly) return refusals.readOnly;
  if (request.lengthBytes > rules.maximumRequestBytes) return refusals.writeTooLong;
  return pastEnd(request, rules) ? refusals.writePastEnd : undefined;
}

function validateWriteZeroes(
  request: Request,
  rules: RequestRules,
  flags: number,
): Refusal | undefined {
  if ((flags & ~(commandFlag.noHole | commandFlag.fastZero)) !== 0) {
    return refuseFlags(rules, flags);
  }
  if (rules.device.readOnly) return refusals.readOnly;
  if (pastEnd(request, rules)) return refusals.writePastEnd;
  const fast = (flags & commandFlag.fastZero) === 0 || canZeroFast(request, rules.device, flags);
  return fast ? undefined : refusals.slowZero;
}

/** Whole blocks that may become holes cost no more than their place in a map. */
function canZeroFast(request: Request, device: BlockDevice, flags: number): boolean {
  if ((flags & commandFlag.noHole) !== 0) return false;
  const block = device.preferredBlockBytes;
  const end = request.offset + request.lengthBytes;
  return request.offset % block === 0 && (end % block === 0 || end === device.sizeBytes);
}

function validateBlockStatus(
  request: Request,
  rules: RequestRules,
  flags: number,
): Refusal | undefined {
  const allowed =
    rules.dialect === 'extended'
      ? commandFlag.reqOne | commandFlag.payloadLength
      : commandFlag.reqOne;
  if ((flags & ~allowed) !== 0) return refusals.flags;
  if (rules.contextCount === 0) return refusals.noContext;
  if ((flags & commandFlag.payloadLength) === 0) {
    return validateStatusRange(request.offset, request.lengthBytes, rules.device);
  }
  const ids = (request.lengthBytes - statusPayload.lengthBytes) / statusPayload.idBytes;
  const isPlausible = Number.isInteger(ids) && ids > 0 && ids <= rules.contextCount;
  return isPlausible ? undefined : badStatusPayload;
}

/** Block status payload: effect length 0..8, then the ids of the contexts. */
export const statusPayload = { lengthBytes: 8, idBytes: 4 } as const;

export const badStatusPayload = refuse(
  'EINVAL',
  'the payload must name contexts that were negotiated, each once',
);
