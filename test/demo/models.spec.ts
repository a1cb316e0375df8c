/** The choice of models: repositories, files of this device, and a chat with a model that has a template. */
import { embeddedGguf } from '../unit/model/gguf_models.ts';
import { expect, ready, test } from './page.ts';

const template =
  '{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{% if add_generation_prompt %}Once upon a time{% endif %}';

test.use({ expectedErrors: [/net::ERR_/] });

test('a hub that cannot be reached, the way back, a dropped GGUF file, and a chat with it', async ({ page }) => {
  await page.route('https://huggingface.co/**', (route) => route.abort());
  await page.goto('./?k=3&maxNewTokens=16&models=smollm2-1.7b&dtype=q4');
  await expect(page.locator('#problem')).toContainText(/ModelFetchError\s+Could not fetch https:\/\/huggingface\.co/);
  await expect(page.locator('#start')).toBeDisabled();
  await page.locator('#models > summary').click();
  await expect(page.locator('#model-dtype')).toHaveValue('q4');
  await page.locator('#model-pair').selectOption({ label: 'Qwen3-1.7B + 0.6B' });
  await expect(page.locator('#model-check')).toContainText(/could not be checked\. ModelFetchError: Could not fetch/);

  await page.locator('#back').click();
  await expect(page.locator('#problem')).toBeHidden();
  await expect(page.locator('#models-name')).toHaveText(/stories-3m \+ stories-650k/);
  await expect(page.locator('#model-pair')).toHaveValue('stories');
  expect(new URL(page.url()).searchParams.get('models')).toBeNull();

  // While the stories are still loading.
  const gguf = embeddedGguf('stories-3m', 'as stored', { 'tokenizer.chat_template': ['string', template] });
  const dropped = await page.evaluateHandle((base64) => {
    const transfer = new DataTransfer();
    const bytes = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
    transfer.items.add(new File([bytes], 'tiny.gguf'));
    return transfer;
  }, Buffer.from(gguf).toString('base64'));
  await page.locator('body').dispatchEvent('drop', { dataTransfer: dropped });
  await expect(page.locator('#model-file-names')).toHaveText('tiny.gguf');
  await expect(page.locator('#model-check')).toHaveText('It fits this device’s limits.');
  await expect(page.locator('#model-facts')).toContainText(/download6\.\d\d MB/);
  await expect(page.locator('#model-load')).toBeFocused();
  await page.keyboard.press('Enter');
  await ready(page);
  await expect(page.locator('#models-name')).toHaveText('tiny.gguf');
  await expect(page.locator('#fact-draft')).toHaveText('n-gram lookup');

  await page.locator('#chat-message').fill('A dog and a dog and a dog');
  await page.keyboard.press('Enter');
  await expect(page.locator('#chat-stats')).toContainText(/^16 tokens, [\d.]+ per second, .* of the drafts accepted/);
  await expect(page.locator('.turn.you .message')).toHaveText('A dog and a dog and a dog');
  expect((await page.locator('.turn.model .message').textContent())?.length).toBeGreaterThan(30);
  await page.locator('#chat-message').fill('And then?');
  await page.locator('#chat-start').click();
  await expect(page.locator('#chat-stats')).toContainText(/, [1-9]\d* prompt tokens reused/);
  await expect(page.locator('.turn')).toHaveCount(4);
  //SHOTS
});
