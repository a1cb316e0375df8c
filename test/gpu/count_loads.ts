/** In a worker, before the engine's own code: counts files fetched, devices and buffers made, and tells whoever asks. */
export type LoadCounts = { files: string[]; devices: number; buffers: number };
export const countsChannel = 'foretoken-test-counts';

if (!('document' in globalThis)) {
  const counts: LoadCounts = { files: [], devices: 0, buffers: 0 };
  const { fetch: fetchFile } = globalThis;
  globalThis.fetch = (input, init) => {
    counts.files.push(new URL(input instanceof Request ? input.url : input, location.href).pathname);
    return fetchFile(input, init);
  };
  const { requestDevice } = GPUAdapter.prototype;
  GPUAdapter.prototype.requestDevice = function (...args) {
    counts.devices += 1;
    return requestDevice.apply(this, args);
  };
  const { createBuffer } = GPUDevice.prototype;
  GPUDevice.prototype.createBuffer = function (...args) {
    counts.buffers += 1;
    return createBuffer.apply(this, args);
  };
  const channel = new BroadcastChannel(countsChannel);
  channel.onmessage = ({ data }) => {
    if (data === 'ask') channel.postMessage(counts);
  };
}
