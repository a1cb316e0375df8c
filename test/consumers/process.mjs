/** Starting programs in a project's folder, the same way on every system. */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import process from 'node:process';

// `npm` is a script that Windows cannot start without a shell; the program behind it is plain JavaScript.
const npmScripts = [
  process.env.npm_execpath ?? '',
  join(dirname(process.execPath), 'node_modules', 'npm', 'bin', 'npm-cli.js'),
  join(dirname(process.execPath), '..', 'lib', 'node_modules', 'npm', 'bin', 'npm-cli.js'),
  '/usr/share/nodejs/npm/bin/npm-cli.js',
];

/** The environment of a person's shell: an outer `npm test` must not set the inner npm's options. */
function plainEnvironment() {
  const own = Object.entries(process.env).filter(([name]) => !/^npm_/i.test(name) && name !== 'NODE_ENV');
  return { ...Object.fromEntries(own), NEXT_TELEMETRY_DISABLED: '1', CI: '1', NO_COLOR: '1', NODE_OPTIONS: '' };
}

/** Runs a Node program to its end. Resolves to its output; throws with it when the program fails or takes too long. */
export function runNode(/** @type {string} */ cwd, /** @type {string[]} */ args, limitMs = 240_000) {
  return /** @type {Promise<string>} */ (
    new Promise((resolve, reject) => {
      const child = spawn(process.execPath, args, { cwd, env: plainEnvironment(), stdio: ['ignore', 'pipe', 'pipe'] });
      let output = '';
      const add = (/** @type {Buffer} */ chunk) => {
        output += chunk;
      };
      child.stdout.on('data', add);
      child.stderr.on('data', add);
      const timer = setTimeout(() => child.kill(), limitMs);
      child.on('error', reject);
      child.on('close', (code, signal) => {
        clearTimeout(timer);
        if (code === 0) resolve(output);
        else reject(new Error(`node ${args.join(' ')} ended with ${code ?? signal}:\n${output.slice(-3000)}`));
      });
    })
  );
}

export function npm(/** @type {string} */ cwd, /** @type {string[]} */ args) {
  const script = npmScripts.find((path) => /npm-cli\.js$/.test(path) && existsSync(path));
  if (script === undefined) throw new Error('Expected to find npm beside Node. Run this by `npm run test:consumers`.');
  return runNode(cwd, [script, ...args]);
}

/** Starts a server program and resolves once its output names an address. */
export function startServer(/** @type {string} */ cwd, /** @type {string[]} */ args, limitMs = 60_000) {
  const child = spawn(process.execPath, args, { cwd, env: plainEnvironment(), stdio: ['ignore', 'pipe', 'pipe'] });
  const close = () =>
    new Promise((resolve) => {
      if (child.exitCode !== null || child.signalCode !== null) return void resolve(null);
      child.on('close', resolve);
      child.kill();
    });
  return /** @type {Promise<{ url: string, close: () => Promise<unknown> }>} */ (
    new Promise((resolve, reject) => {
      let output = '';
      const fail = (/** @type {string} */ what) => {
        child.kill();
        reject(new Error(`node ${args.join(' ')} ${what}:\n${output.slice(-3000)}`));
      };
      const timer = setTimeout(() => fail(`named no address in ${limitMs / 1000} s`), limitMs);
      const add = (/** @type {Buffer} */ chunk) => {
        output += chunk;
        const url = /http:\/\/localhost:\d+/.exec(output)?.[0];
        if (url === undefined) return;
        clearTimeout(timer);
        resolve({ url: `${url}/`, close });
      };
      child.stdout.on('data', add);
      child.stderr.on('data', add);
      child.on('error', reject);
      child.on('close', (code) => {
        clearTimeout(timer);
        fail(`ended with ${code}`);
      });
    })
  );
}
