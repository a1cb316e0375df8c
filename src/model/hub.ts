/** The Hugging Face hub: repository ids, and what its refusals mean. */
import { parseRepositoryId } from '../model_options.ts';

const HUB_ORIGIN = 'https://huggingface.co';
/** Folder URL of the repository that `target` names, or null where it is no repository id. */
export function hubFolderUrl(target: string): string | null {
  const id = parseRepositoryId(target);
  if (id === null) return null;
  return `${HUB_ORIGIN}/${id.owner}/${id.name}/resolve/${encodeURIComponent(id.revision)}/`;
}

export const isHubUrl = (url: URL) => url.origin === HUB_ORIGIN;

/** True where the revision is a commit, whose files never change. */
export const isHubCommit = (url: URL) => isHubUrl(url) && /\/resolve\/[0-9a-f]{40}\//.test(url.pathname);

/** What is wrong with a hub URL that leads to a page instead of files, or null. */
export function hubUrlFault(url: URL): string | null {
  if (!isHubUrl(url)) return null;
  if (url.pathname.includes('/resolve/')) return null;
  const [, owner, name, kind] = url.pathname.split('/');
  if (kind === 'blob' || kind === 'tree') {
    return `which is the address of a page. Write "/resolve/" where it has "/${kind}/".`;
  }
  return `which is the address of a page. Pass the repository id '${owner || 'owner'}/${name || 'name'}' instead.`;
}

/** What a refusal of the hub means, and what to do. `code` is its header X-Error-Code. */
export function hubRemedy(url: URL, status: number, code: string | null): string {
  const [, owner, name, , revision = '', ...path] = url.pathname.split('/');
  const repository = `${owner}/${name}`;
  const serveIt = 'Use a public model, or download this one and serve its folder yourself.';
  if (code === 'GatedRepo') {
    return `The model ${repository} is gated: its owner gives it to users who asked and are logged in. ${serveIt}`;
  }
  if (code === 'RevisionNotFound') {
    return `The repository ${repository} has no revision ${JSON.stringify(decodeURIComponent(revision))}. Check what follows the @.`;
  }
  if (code === 'RepoNotFound' || ((status === 401 || status === 404) && code === null)) {
    return (
      `The hub has no public repository ${repository}: it may be misspelt, private or gated. Check the id; ` +
      `a folder of your own site is written './${repository}/', with a dot and a slash.`
    );
  }
  if (status === 404) {
    return (
      `The repository ${repository} has no file ${path.join('/')}. Use a repository in the transformers layout ` +
      `(config.json, model.safetensors, tokenizer.json), or the URL of a .gguf file in it: ` +
      `${HUB_ORIGIN}/${repository}/resolve/${revision}/<file>.gguf.`
    );
  }
  return `The hub refuses this file of ${repository}. ${serveIt}`;
}
