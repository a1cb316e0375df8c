/** Measured figures beside what is asked of them. */
export type Row = {
  what: string;
  measured: string;
  spread: number;
  /** The same of the fastest samples: nearer to the truth where other programs run beside. */
  fastest: number | null;
  asked: string;
  /** By the medians. */
  reached: boolean;
};

type Figure = Pick<Row, 'what' | 'spread' | 'fastest'> & { value: number /** What it is made of. */; detail?: string };

const rowOf = ({ what, value, spread, fastest, detail }: Figure, asked: string, reached: boolean): Row => ({
  what,
  measured: value.toFixed(2) + (detail === undefined ? '' : ` (${detail})`),
  spread,
  fastest,
  asked,
  reached,
});

export const atMost = (most: number, figure: Figure): Row => rowOf(figure, `≤ ${most}`, figure.value <= most);
export const atLeast = (least: number, figure: Figure): Row => rowOf(figure, `≥ ${least}`, figure.value >= least);
