/**
 * One class per cause. Each carries a literal `name`, because only name, message and stack survive `postMessage`;
 * `reviveError` turns what arrives back into the class that was thrown. Test with `instanceof`, or by `name` across realms.
 */

/** No WebGPU here: `navigator.gpu` is missing or no adapter answers. */
export class WebGPUUnavailableError extends Error {
  override readonly name = 'WebGPUUnavailableError';
}

/** The adapter lacks a limit or feature that this model needs. Thrown before any weight is downloaded where that can be known. */
export class DeviceLimitError extends Error {
  override readonly name = 'DeviceLimitError';
}

/** The GPU device went away (driver reset, sleep, `destroy()`), or reported an error that it cannot continue from. */
export class DeviceLostError extends Error {
  override readonly name = 'DeviceLostError';
}

/** The device refused something this library asked for: validation error, shader compilation, out of memory. */
export class DeviceError extends Error {
  override readonly name = 'DeviceError';
}

/** A model file could not be fetched: network failure, HTTP status, or a body that ended early. */
export class ModelFetchError extends Error {
  override readonly name = 'ModelFetchError';
}

/** A model file was fetched and is not what its name says, or contradicts the other files of its folder. */
export class ModelFormatError extends Error {
  override readonly name = 'ModelFormatError';
}

/** The model is well-formed, but of an architecture, data type or configuration that is not supported. */
export class UnsupportedModelError extends Error {
  override readonly name = 'UnsupportedModelError';
}

/** Draft and target do not share one vocabulary, so a draft token would mean another word to the target. */
export class VocabularyMismatchError extends Error {
  override readonly name = 'VocabularyMismatchError';
}

/** An option, a prompt or a message to the worker is of the wrong type, out of range, or unknown. */
export class InvalidOptionError extends Error {
  override readonly name = 'InvalidOptionError';
}

/** The forward pass produced NaN or infinity: the weights are damaged, or overflow in 16 bits. */
export class NonFiniteLogitsError extends Error {
  override readonly name = 'NonFiniteLogitsError';
}

/** The worker failed to load, was blocked, died, or stayed silent. */
export class WorkerError extends Error {
  override readonly name = 'WorkerError';
}

/** The engine was disposed before or during the call. */
export class EngineDisposedError extends Error {
  override readonly name = 'EngineDisposedError';
}

const errorClasses = {
  WebGPUUnavailableError,
  DeviceLimitError,
  DeviceLostError,
  DeviceError,
  ModelFetchError,
  ModelFormatError,
  UnsupportedModelError,
  VocabularyMismatchError,
  InvalidOptionError,
  NonFiniteLogitsError,
  WorkerError,
  EngineDisposedError,
};

/** The `name` of every error class of this library. */
export type ForetokenErrorName = keyof typeof errorClasses;

/** True for an error of this library, also for one that crossed `postMessage` and lost its class. */
export function isForetokenError(error: unknown): error is Error & { name: ForetokenErrorName } {
  const name = (error as { name?: unknown } | null | undefined)?.name;
  return typeof name === 'string' && Object.hasOwn(errorClasses, name);
}

/** Gives an error that crossed `postMessage` its class back; anything else is returned as it is. */
export function reviveError(error: unknown): unknown {
  if (!isForetokenError(error)) return error;
  const errorClass = errorClasses[error.name];
  if (error instanceof errorClass) return error;
  const revived = new errorClass(error.message);
  if (error.stack !== undefined) revived.stack = error.stack;
  return revived;
}
