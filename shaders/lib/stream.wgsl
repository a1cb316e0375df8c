// A row of the residual stream, in f32: the hidden state h (D,); h times the weights of the norm that comes next (D,);
// 1 / its root mean square and three words of padding; sums of h², each of a group of neighbours, and zeros up to a
// multiple of four. So a norm is no pass of its own: who makes h leaves the rest behind, and the matmul that reads the norm
// divides its sums by the root mean square.
// Sums of squares: ascending in a group; then every 8th four groups to each of 8 parts, ascending; the parts left to right.

fn add_square(sum: f32, x: f32) -> f32 {
  return sum + x * x;
}

// Where the sums of squares begin in a row.
fn first_square(hiddenSize: u32) -> u32 {
  return 2u * hiddenSize + 4u;
}

// Vectors of four that they fill.
fn square_vectors(hiddenSize: u32, group: u32) -> u32 {
  return (hiddenSize + group * 4u - 1u) / (group * 4u);
}

fn add_squares(sum: f32, four: vec4<f32>) -> f32 {
  return sum + four.x + four.y + four.z + four.w;
}

fn inverse_rms(squares: f32, hiddenSize: u32, epsilon: f32) -> f32 {
  return inverseSqrt(squares / f32(hiddenSize) + epsilon);
}
