/** One engine for several tabs: who asks for a name joins the engine of that name, and the last one to leave ends it. */
import { DeviceError, DeviceLostError, EngineDisposedError, InvalidOptionError } from './errors.ts';
import { abortable } from './model/abort.ts';
import type { Engine, EngineOptions, LoadProgress } from './types.ts';

/** What all tabs have to agree on. */
type SharedOptions = Omit<EngineOptions, 'onProgress' | 'signal'>;

type Tab = { onProgress: ((progress: LoadProgress) => void) | undefined };

type SharedEngine = {
  /** Of the tab that came first. */
  options: SharedOptions;
  tabs: Set<Tab>;
  loading: AbortController;
  engine: Promise<Engine>;
};

/** As `createEngine`, once for all callers of one name. `dispose` of what it gives only leaves. */
export type JoinEngine = (name: string, options: EngineOptions) => Promise<Engine>;

export function createEngineSharing(createEngine: (options: EngineOptions) => Promise<Engine>): JoinEngine {
  const engines = new Map<string, SharedEngine>();

  const start = (name: string, options: SharedOptions): SharedEngine => {
    const tabs = new Set<Tab>();
    const loading = new AbortController();
    const onProgress = (progress: LoadProgress): void => {
      for (const tab of tabs) tab.onProgress?.(progress);
    };
    const engine = createEngine({ ...options, onProgress, signal: loading.signal });
    const shared = { options, tabs, loading, engine };
    engines.set(name, shared);
    return shared;
  };

  /** Those in it stay; nobody else joins. */
  const retire = (name: string, shared: SharedEngine): void => {
    if (engines.get(name) === shared) engines.delete(name);
  };

  return async (name, { onProgress, signal, ...options }) => {
    signal?.throwIfAborted();
    const existing = engines.get(name);
    if (existing !== undefined) checkSameOptions(name, existing.options, options);
    const shared = existing ?? start(name, options);
    const tab: Tab = { onProgress };
    shared.tabs.add(tab);
    const leave = async (): Promise<void> => {
      if (!shared.tabs.delete(tab) || shared.tabs.size > 0) return;
      retire(name, shared);
      shared.loading.abort(new EngineDisposedError('Expected a tab to wait for this engine, but all have left.'));
      await (await shared.engine.catch(() => null))?.dispose();
    };
    try {
      const engine = await abortable(shared.engine, signal);
      return {
        ...engine,
        info: { ...engine.info, shared: true },
        generate(prompt, generateOptions) {
          const run = engine.generate(prompt, generateOptions);
          run.result.catch((error) => {
            if (error instanceof DeviceLostError || error instanceof DeviceError) retire(name, shared);
          });
          return run;
        },
        dispose: leave,
      };
    } catch (error) {
      void leave();
      throw error;
    }
  };
}

function checkSameOptions(name: string, first: SharedOptions, second: SharedOptions): void {
  const keys = [...new Set([...Object.keys(first), ...Object.keys(second)])] as (keyof SharedOptions)[];
  const shown = (options: SharedOptions, key: keyof SharedOptions): string => JSON.stringify(options[key]) ?? 'nothing';
  const key = keys.find((each) => shown(first, each) !== shown(second, each));
  if (key === undefined) return;
  throw new InvalidOptionError(
    `Expected \`${key}\` to be ${shown(first, key)}, as in the engine that other tabs share under the name "${name}", ` +
      `got ${shown(second, key)}. Give the same options in every tab, or this engine a name of its own: \`share: '…'\`.`,
  );
}
