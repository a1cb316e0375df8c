// Activations of gated linear units (Shazeer 2020), as the params of the matmuls name them.
const ACTIVATION_NONE = 0u;
const ACTIVATION_SILU = 1u;
const ACTIVATION_GELU = 2u;  // in its tanh form (Hendrycks & Gimpel 2016)

fn activate(activation: u32, x: f32) -> f32 {
  var z = x;
  if (activation == ACTIVATION_GELU) {
    // 0.5 · (1 + tanh(z)) is the logistic function of 2z, which does not overflow.
    z = 1.5957691216 * (x + 0.044715 * x * x * x);
  }
  return x / (1.0 + exp(-z));
}
