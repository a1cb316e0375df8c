declare module 'parse-prometheus-text-format' {
  type Family = { name: string; type: string; metrics: { value: string; labels: Record<string, string> }[] };
  export default function parse(text: string): Family[];
}
