// Probability of a kept token under a distribution (maximum, threshold, sum) of threshold.wgsl.
fn probability(logit: f32, distribution: vec4<f32>) -> f32 {
  if (!is_finite(logit) || logit < distribution.y || distribution.z <= 0.0) {
    return 0.0;
  }
  return exp(logit - distribution.x) / distribution.z;
}
