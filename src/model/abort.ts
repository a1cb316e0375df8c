/** Settles with `promise`, or rejects with the signal's reason at once, even if what is awaited ignores the signal. */
export function abortable<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return promise;
  return new Promise<T>((resolve, reject) => {
    const onAbort = () => reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}

/** Runs all; the first failure aborts the others, whose own rejections nobody hears of, and is thrown. */
export async function allOrAbort<T extends readonly unknown[]>(
  signal: AbortSignal | undefined,
  tasks: { [K in keyof T]: (signal: AbortSignal) => Promise<T[K]> },
): Promise<T> {
  signal?.throwIfAborted();
  const failure = new AbortController();
  const linked = signal ? AbortSignal.any([signal, failure.signal]) : failure.signal;
  try {
    return (await Promise.all(tasks.map((task) => task(linked)))) as unknown as T;
  } catch (error) {
    failure.abort(error);
    throw error;
  }
}
