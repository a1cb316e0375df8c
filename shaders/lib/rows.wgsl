// The rows of one forward pass, written by rows.wgsl from the sequence states and read by every other kernel.
struct Row {
  token: u32,
  slot: u32,
  position: u32,
  group: u32,           // at index i, query group i of the pass: its first row, and its rows << 16
}

struct Rows {
  rowCount: u32,        // 0: no sequence has rows, every kernel of the pass returns at once
  firstOutputRow: u32,  // the rows from here on get logits
  groupCount: u32,      // query groups: neighbouring rows of one slot, which share loads of keys and values
  reserved: u32,
  row: array<Row>,
}
