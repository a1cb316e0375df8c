/**
 * The GPU specs in Firefox, headless: a browser provider of Vitest that starts the system's Firefox with a profile of its
 * own. Playwright drives a patched Firefox only, which Debian does not have; these specs need no driver, just a page.
 *
 *   FIREFOX_PATH=/path/to/firefox   this one and no other
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { defineBrowserProvider } from '@vitest/browser';

const names = ['firefox', 'firefox-esr', 'firefox-nightly'];

function findFirefox() {
  const { FIREFOX_PATH, PATH = '' } = process.env;
  const candidates = FIREFOX_PATH
    ? [FIREFOX_PATH]
    : PATH.split(':').flatMap((folder) => names.map((name) => join(folder, name)));
  const path = candidates.find((candidate) => existsSync(candidate));
  if (path === undefined) {
    throw new Error(`Expected a Firefox (${candidates[0]}, …), found none. Install one, or set FIREFOX_PATH.`);
  }
  return path;
}

/** WebGPU on Linux is behind settings, and CPU adapters are on its block list. */
const settings = {
  'dom.webgpu.enabled': true,
  'dom.webgpu.workers.enabled': true,
  'gfx.webgpu.ignore-blocklist': true,
  'app.update.enabled': false,
  'browser.aboutwelcome.enabled': false,
  'browser.shell.checkDefaultBrowser': false,
  'datareporting.policy.dataSubmissionEnabled': false,
  // A page that a test keeps busy is no page that hangs.
  'dom.ipc.processHangMonitor': false,
};

export const firefox = () =>
  defineBrowserProvider({
    name: 'firefox',
    options: {},
    providerFactory() {
      /** @type {import('node:child_process').ChildProcess | null} */
      let child = null;
      const profile = mkdtempSync(join(tmpdir(), 'foretoken-firefox-'));
      const lines = Object.entries(settings).map(([name, value]) => `user_pref("${name}", ${value});\n`);
      writeFileSync(join(profile, 'user.js'), lines.join(''));
      return {
        name: 'firefox',
        supportsParallelism: false,
        getCommandsContext: () => ({}),
        async openPage(_session, url) {
          const env = { ...process.env, HOME: profile };
          child = spawn(findFirefox(), ['--headless', '--no-remote', '--profile', profile, url], {
            env,
            stdio: 'ignore',
          });
        },
        async close() {
          if (child !== null && child.exitCode === null) {
            const ended = new Promise((resolve) => child?.once('exit', resolve));
            child.kill();
            await ended;
          }
          rmSync(profile, { recursive: true, force: true, maxRetries: 5 });
        },
      };
    },
  });
