/** The options that name a model: what is a repository id, and what a model is called where nobody says. */

/** `owner/name`, and after an `@` a branch, tag, commit or `refs/pr/1`. */
const REPOSITORY_ID = /^(\w[\w.-]*)\/(\w[\w.-]*)(?:@(\w[\w./-]*))?$/;
/** A relative path to a file looks like an id but for this. */
const FILE_NAME = /\.(gguf|safetensors|json|bin|onnx|pth?|html)$/i;

/**
 * A repository of the Hugging Face hub. Null for a URL or a path: those begin with a dot or a slash, end in a slash, or
 * have not exactly one slash within.
 */
export function parseRepositoryId(target: string): { owner: string; name: string; revision: string } | null {
  const match = REPOSITORY_ID.exec(target);
  if (match === null || FILE_NAME.test(target)) return null;
  const [, owner, name, revision = 'main'] = match as unknown as [string, string, string, string?];
  return { owner, name, revision };
}

/** For people to read: the name of the repository, of the GGUF file, or of the folder. */
export function modelNameOf(target: string): string {
  const id = parseRepositoryId(target);
  if (id !== null) return id.name;
  const path = target.replace(/[?#].*$/s, '').replace(/^[a-z][a-z0-9+.-]*:\/\/[^/]*/i, '');
  const folder = path.replace(/\/resolve\/[^/]+\/?$/, '');
  const segment = folder.split('/').findLast((part) => part !== '' && part !== '.' && part !== '..');
  if (segment === undefined) return target;
  try {
    return decodeURIComponent(segment).replace(/\.gguf$/i, '');
  } catch {
    return segment;
  }
}
