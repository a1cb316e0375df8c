import { expect, test } from 'vitest';
import { openModel } from '../../../src/model/load.ts';
import type { TensorRows } from '../../../src/model/tensor_rows.ts';
import { withFirstLayers } from '../../reference/shallow_gguf.ts';
import { embeddedGguf, sourceOf } from '../model/gguf_models.ts';

async function tensorsOf(file: Uint8Array<ArrayBuffer>) {
  const model = await openModel(sourceOf(file), 'target');
  const tensors = new Map<string, string>();
  const add = ({ name, dtype, data }: TensorRows) => {
    tensors.set(name, `${tensors.get(name) ?? dtype} ${Buffer.from(data).toString('base64')}`);
  };
  for await (const rows of model.readTensors({})) add(rows);
  return { model, tensors };
}

test('the first layers of a file are a model of their own, of the same tensors', async () => {
  const file = embeddedGguf('stories-3m', 'Q8_0 in part');
  const [whole, shallow] = [await tensorsOf(file), await tensorsOf(withFirstLayers(file, 1))];
  expect(whole.model.config.layerCount).toBeGreaterThan(1);
  expect({ ...shallow.model.config, windows: [] }).toEqual({ ...whole.model.config, layerCount: 1, windows: [] });
  expect(shallow.model.tokenizer.encode('Once upon a time')).toEqual(whole.model.tokenizer.encode('Once upon a time'));
  expect(shallow.tensors.size).toBeLessThan(whole.tensors.size);
  for (const [name, data] of shallow.tensors) expect(data === whole.tensors.get(name), name).toBe(true);
});
