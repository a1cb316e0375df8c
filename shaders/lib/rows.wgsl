// The rows of one forward pass, written by rows.wgsl from the sequence state and read by every other kernel.
struct Row {
  token: u32,
  slot: u32,
  position: u32,
  reserved: u32,
}

struct Rows {
  rowCount: u32,        // 0: the sequence has ended, every kernel of the pass returns at once
  firstOutputRow: u32,  // the rows from here on get logits
  reserved0: u32,
  reserved1: u32,
  row: array<Row>,
}
