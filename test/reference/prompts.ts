/**
 * Story beginnings for every test that compares tokens: 2 (one word) to 220 tokens of the embedded pair. Prompts 14 and
 * 19 reach the end of the story within 64 tokens, the others do not.
 * Fixed: acceptance rates and margins recorded elsewhere belong to these strings.
 */
export const prompts: readonly string[] = [
  'Once upon a time, there was a little girl named Lily.',
  'Once upon a time',
  'One day, a boy named Tim went to the park with his mom.',
  'Hello',
  'There was once a big brown bear who lived in the forest.',
  'Tom and Sue were best friends. They liked to play in the garden',
  '"Look at the moon!" said Anna.',
  'The little red car was sad because',
  'A hungry fox saw a crow with a piece of cheese in a tree.',
  'In a small village by the sea, an old man had a boat.',
  'Mia found a shiny key under her bed. She wanted to know what it could open, so she',
  'It was raining, and the cat did not want to go outside.',
  'Ben had a kite. It was blue and red. He ran up the hill and the wind',
  'Long ago, there lived a king with three sons.',
  'Leo said sorry and gave the toy back. From that day on, they were friends. The end',
  'Every morning, Grandma made soup for 7 hungry children.',
  'A tiny bird fell out of its nest, and nobody heard it cry.',
  '"I am not scared," said the lion. But he was scared of the dark.',
  'Zoë and her brother Józef baked a cake for their teacher.',
  'Once upon a time, there was a small rabbit named Pip. Pip lived in a hole under a big oak tree with his mother, his ' +
    'father and his two sisters. Every day, the rabbits went to the field to eat green grass and sweet carrots. One ' +
    'day, Pip saw a butterfly with yellow wings. He had never seen such a pretty thing before. He hopped after it, past ' +
    'the fence, past the river and into the dark woods. When the butterfly flew away, Pip looked around. He did not know ' +
    'where he was. The trees were tall, and the sun was going down. "Hello?" he said in a small voice. "Is anybody ' +
    'here?" An old owl opened one eye and looked down at him. "You are far from home, little rabbit," said the owl. ' +
    '"Do you want me to help you?" Pip was surprised and said, "Yes, please." The owl smiled and said, "Come with me, ' +
    'little rabbit." From that day on,',
];

/**
 * The five prompts that leave most room for rounding: over 64 greedy tokens of the target, the logit of the chosen
 * token is never less than 0.041 above the next (0.096, 0.073, 0.045, 0.042, 0.041 in this order; float32 is off by
 * about 1e-5). On these a GPU must give the twin's tokens, rounds and rates exactly, not only nearly. Prompt 14 has a
 * larger margin, but ends after two tokens and would show nothing.
 */
export const wideMarginPrompts: readonly number[] = [2, 3, 6, 18, 4];

/** `<|endoftext|>` of the embedded pair: leads a prompt and ends a story. */
export const endOfTextId = 0;
