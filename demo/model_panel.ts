/** The choice of models: what is to be loaded, what it takes, and whether it fits this device. */
import { checkModel, type ModelCheck } from 'foretoken';
import { byId, element, textAt } from './dom.ts';
import { engineOptions, type ModelChoice, pairOf, pairs } from './models.ts';
import { megabytes } from './words.ts';

export type ModelPanel = {
  /** Of the last files that were chosen or dropped. */
  files(): readonly File[];
  show(choice: ModelChoice): void;
};

export function installModelPanel(load: (choice: ModelChoice) => void): ModelPanel {
  const form = byId('model-form', HTMLFormElement);
  const pairSelect = byId('model-pair', HTMLSelectElement);
  const drafter = byId('model-drafter', HTMLSelectElement);
  const dtype = byId('model-dtype', HTMLSelectElement);
  const target = byId('model-target', HTMLInputElement);
  const draft = byId('model-draft', HTMLInputElement);
  const picker = byId('model-file', HTMLInputElement);
  let files: readonly File[] = [];
  let checking = new AbortController();

  pairSelect.append(
    ...pairs.map(({ id, name }) => element('option', { value: id, textContent: name })),
    element('option', { value: 'own', textContent: 'another repository or URL' }),
    element('option', { value: 'files', textContent: 'files of this device' }),
  );

  const choice = (): ModelChoice => ({
    pair: pairSelect.value,
    target: pairSelect.value === 'own' ? target.value.trim() : '',
    draft: pairSelect.value === 'own' ? draft.value.trim() : '',
    drafter: drafter.value as ModelChoice['drafter'],
    dtype: dtype.value as ModelChoice['dtype'],
  });

  const isComplete = ({ pair }: ModelChoice) =>
    pair === 'files' ? files.length > 0 : pair !== 'own' || target.value.trim() !== '';

  function update(): void {
    byId('model-own', HTMLElement).hidden = pairSelect.value !== 'own';
    byId('model-files', HTMLElement).hidden = pairSelect.value !== 'files';
    target.required = pairSelect.value === 'own';
    byId('model-load', HTMLButtonElement).disabled = !isComplete(choice());
  }

  async function check(): Promise<void> {
    update();
    checking.abort();
    checking = new AbortController();
    const { signal } = checking;
    const asked = choice();
    const facts = byId('model-facts', HTMLElement);
    const problems = byId('model-problems', HTMLElement);
    facts.hidden = true;
    problems.replaceChildren();
    say(isComplete(asked) ? 'Reading the head of each file …' : '');
    if (!isComplete(asked)) return;
    try {
      const result = await checkModel({ ...engineOptions(asked, files), signal });
      if (signal.aborted) return;
      facts.replaceChildren(...checkFacts(result, pairOf(asked)?.licence));
      facts.hidden = false;
      problems.replaceChildren(
        ...result.problems.map(({ code, message }) => element('li', { textContent: `${code}: ${message}` })),
      );
      say(result.fits ? 'It fits this device’s limits.' : 'It does not work here as it is:', !result.fits);
    } catch (error) {
      if (signal.aborted) return;
      const { name, message } = error as Error;
      say(`It could not be checked. ${name}: ${message}`, true);
    }
  }

  function takeFiles(given: readonly File[]): void {
    files = given;
    pairSelect.value = 'files';
    drafter.value = 'ngram';
    textAt('model-file-names', files.map(({ name }) => name).join(', '));
    byId('models', HTMLDetailsElement).open = true;
    void check();
  }

  for (const box of [pairSelect, drafter, dtype, target, draft]) box.addEventListener('change', () => void check());
  target.addEventListener('input', update);
  picker.addEventListener('change', () => takeFiles([...(picker.files ?? [])]));
  document.addEventListener('dragover', (event) => {
    if (event.dataTransfer?.types.includes('Files')) event.preventDefault();
  });
  document.addEventListener('drop', (event) => {
    const dropped = [...(event.dataTransfer?.files ?? [])];
    if (dropped.length === 0) return;
    event.preventDefault();
    takeFiles(dropped);
    byId('model-load', HTMLButtonElement).focus();
  });
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    checking.abort();
    load(choice());
  });

  return {
    files: () => files,
    show(shown) {
      pairSelect.value = shown.pair;
      drafter.value = shown.drafter;
      dtype.value = shown.dtype;
      target.value = shown.target;
      draft.value = shown.draft;
      update();
    },
  };
}

function say(text: string, isProblem = false): void {
  textAt('model-check', text);
  byId('model-check', HTMLElement).classList.toggle('warning', isProblem);
}

function checkFacts(check: ModelCheck, licence: string | undefined): HTMLElement[] {
  const { gpuBytes, target, draft, sameVocabulary } = check;
  const parameters = [target, draft].flatMap((model) =>
    model ? [`${(model.parameterCount / 1e6).toFixed(1)} M`] : [],
  );
  const facts: [string, string][] = [
    ['licence', licence ?? 'see the model’s own page'],
    ['parameters', parameters.join(' + ')],
    ['download', megabytes(check.downloadBytes)],
    [
      `GPU memory, ${check.dtype}, context ${check.contextLength}`,
      `${megabytes(gpuBytes.total)}: weights ${megabytes(gpuBytes.weights)}, keys and values ${megabytes(gpuBytes.keysAndValues)}`,
    ],
    ['vocabularies', sameVocabulary === null ? 'one model only' : sameVocabulary ? 'the same' : 'they differ'],
    ['chat template', target.hasChatTemplate ? 'yes' : 'none'],
  ];
  return facts.map(([name, value]) =>
    element('div', {}, [element('dt', { textContent: name }), element('dd', { textContent: value })]),
  );
}
