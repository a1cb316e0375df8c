import packageJson from '../package.json';

/** The repository named in package.json, as a page address; null while it names none. */
export const repositoryUrl: string | null = pageUrl(packageJson as { repository?: string | { url?: string } });

function pageUrl({ repository }: { repository?: string | { url?: string } }): string | null {
  const url = typeof repository === 'string' ? repository : repository?.url;
  return url === undefined ? null : url.replace(/^git\+/, '').replace(/\.git$/, '');
}

/** The section of the troubleshooting page about one error class. */
export function docsUrlOf(errorName: string): string | null {
  return repositoryUrl === null
    ? null
    : `${repositoryUrl}/blob/main/docs/troubleshooting.md#${errorName.toLowerCase()}`;
}
