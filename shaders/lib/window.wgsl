// The first position that a row sees: sliding windows (Beltagy et al. 2020) end with the row's own position.
fn first_seen(position: u32, window: u32) -> u32 {
  return select(0u, position + 1u - min(window, position + 1u), window > 0u);
}
