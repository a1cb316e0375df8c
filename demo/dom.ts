/** The element with this id; throws where the page and the code disagree, instead of failing later as null. */
export function byId<T extends HTMLElement>(id: string, type: { new (): T }): T {
  const found = document.getElementById(id);
  if (!(found instanceof type))
    throw new Error(`Expected #${id} to be a ${type.name}, got ${found?.tagName ?? 'nothing'}.`);
  return found;
}

export const textAt = (id: string, text: string): void => {
  byId(id, HTMLElement).textContent = text;
};

export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  properties: Partial<HTMLElementTagNameMap[K]> = {},
  children: (Node | string)[] = [],
): HTMLElementTagNameMap[K] {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** Speaks one sentence to screen readers; used for starts, ends and copies, not for every round. */
export function announce(text: string): void {
  textAt('announcer', text);
}

/** Copies, and says on the button itself whether it worked. */
export async function copyFrom(button: HTMLButtonElement, text: string): Promise<void> {
  const label = button.textContent ?? '';
  if (button.dataset.copying !== undefined) return;
  button.dataset.copying = '';
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = 'Copied';
    announce('Copied');
  } catch {
    // Blocked by a permission or a frame: the text must still be reachable.
    window.prompt('The browser did not allow copying. Copy this:', text);
  }
  setTimeout(() => {
    button.textContent = label;
    delete button.dataset.copying;
  }, 1500);
}

/** An animation frame; a hidden tab paints none, so time out of it instead of waiting for the tab to return. */
export function nextFrame(): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(done, 250);
    const frame = requestAnimationFrame(done);
    function done() {
      clearTimeout(timer);
      cancelAnimationFrame(frame);
      resolve();
    }
  });
}
