/** The listeners of `engine.on`; the same code on the page and in the engine. */
import { InvalidOptionError } from './errors.ts';
import type { EngineEventName, EngineEvents, OnEngineEvent } from './event_types.ts';
import { expected } from './option_values.ts';

const NAMES: readonly EngineEventName[] = ['round', 'request', 'batch'];

export type Emitter = {
  on: OnEngineEvent;
  /** `make` is called only where somebody listens. */
  emit<Name extends EngineEventName>(name: Name, make: () => EngineEvents[Name]): void;
};

/** `onChange` hears of the first listener of a name, and of the end of its last one. */
export function createEmitter(onChange: (name: EngineEventName, isHeard: boolean) => void = () => {}): Emitter {
  type Listener = { call: (event: never) => void };
  const listeners = new Map(NAMES.map((name) => [name, new Set<Listener>()]));
  return {
    on(name, listener) {
      const mine = listeners.get(name);
      if (mine === undefined) {
        throw expected('name', "'round', 'request' or 'batch'", name, 'It is the first argument of engine.on().');
      }
      if (typeof listener !== 'function') {
        throw new InvalidOptionError('Expected the second argument of engine.on() to be a function. Pass a listener.');
      }
      const entry: Listener = { call: listener }; // one function may listen twice
      mine.add(entry);
      if (mine.size === 1) onChange(name, true);
      return () => {
        if (mine.delete(entry) && mine.size === 0) onChange(name, false);
      };
    },
    emit(name, make) {
      const mine = listeners.get(name) as Set<Listener>;
      if (mine.size === 0) return;
      const event = make();
      for (const { call } of [...mine]) {
        try {
          call(event as never);
        } catch (error) {
          queueMicrotask(() => {
            throw error;
          });
        }
      }
    },
  };
}
