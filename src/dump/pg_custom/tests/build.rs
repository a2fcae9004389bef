//! Makes archives piece by piece, right or wrong.

/// The parts of an archive that is being made.
pub(super) struct Archive {
    minor: u8,
    entries: Vec<u8>,
    count: i64,
    blocks: Vec<u8>,
}

/// How the offset of an entry is written: flag and value.
pub(super) const NOT_SET: (u8, u64) = (1, 0);
pub(super) const NO_DATA: (u8, u64) = (3, 0);

pub(super) fn int(value: i64) -> Vec<u8> {
    let mut bytes = vec![u8::from(value < 0)];
    bytes.extend(u32::try_from(value.unsigned_abs()).unwrap().to_le_bytes());
    bytes
}

pub(super) fn string(value: Option<&[u8]>) -> Vec<u8> {
    let Some(value) = value else { return int(-1) };
    [int(i64::try_from(value.len()).unwrap()), value.to_vec()].concat()
}

/// Returns everything before the entries but their number.
pub(super) fn start(minor: u8) -> Vec<u8> {
    let mut bytes = b"PGDMP".to_vec();
    bytes.extend([1, minor, 0, 4, 8, 1]);
    bytes.extend(if minor < 15 { int(0) } else { vec![0] });
    for part in [7, 30, 12, 21, 10, 126, 0] {
        bytes.extend(int(part));
    }
    for text in ["shop", "15.18", "15.18"] {
        bytes.extend(string(Some(text.as_bytes())));
    }
    bytes
}

/// Returns the data of an entry: the pieces of these lengths, and the end.
pub(super) fn pieces(lengths: &[usize]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for length in lengths {
        bytes.extend(int(i64::try_from(*length).unwrap()));
        bytes.extend((0..*length).map(|index| u8::try_from(index % 7).unwrap()));
    }
    bytes.extend(int(0));
    bytes
}

/// Returns a block with the data of a table.
pub(super) fn table(dump_id: i64, lengths: &[usize]) -> Vec<u8> {
    [vec![1], int(dump_id), pieces(lengths)].concat()
}

/// Returns a block of large objects: the id of each, and the lengths of its pieces.
pub(super) fn large_objects(dump_id: i64, objects: &[(i64, Vec<usize>)]) -> Vec<u8> {
    let mut bytes = [vec![3], int(dump_id)].concat();
    for (oid, lengths) in objects {
        bytes.extend(int(*oid));
        bytes.extend(pieces(lengths));
    }
    bytes.extend(int(0));
    bytes
}

impl Archive {
    pub(super) fn new(minor: u8) -> Self {
        Self { minor, entries: Vec::new(), count: 0, blocks: Vec::new() }
    }

    pub(super) fn entry(self, dump_id: i64, description: &str, tag: &str, offset: (u8, u64)) -> Self {
        let mark = i64::from(offset.0 != NO_DATA.0);
        self.entry_marked(dump_id, description, tag, offset, mark)
    }

    pub(super) fn entry_marked(
        mut self,
        dump_id: i64,
        description: &str,
        tag: &str,
        offset: (u8, u64),
        mark: i64,
    ) -> Self {
        let mut bytes = [int(dump_id), int(mark)].concat();
        for text in ["1259", "16384", tag, description] {
            bytes.extend(string(Some(text.as_bytes())));
        }
        bytes.extend(int(3));
        bytes.extend(string(Some(b"SELECT 1;\n")));
        bytes.extend([string(None), string(None)].concat());
        bytes.extend(string(Some(b"public")));
        bytes.extend([string(None), string(None)].concat());
        if self.minor >= 16 {
            bytes.extend(int(114));
        }
        for text in ["postgres", "false", "12", "4000000"] {
            bytes.extend(string(Some(text.as_bytes())));
        }
        bytes.extend(string(None));
        bytes.push(offset.0);
        bytes.extend(offset.1.to_le_bytes());
        self.entries.extend(bytes);
        self.count += 1;
        self
    }

    /// Adds an entry of a table's data that begins nobody knows where.
    pub(super) fn table(self, dump_id: i64, name: &str) -> Self {
        self.entry(dump_id, "TABLE DATA", name, NOT_SET)
    }

    pub(super) fn block(mut self, bytes: &[u8]) -> Self {
        self.blocks.extend(bytes);
        self
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        [start(self.minor), int(self.count), self.entries.clone(), self.blocks.clone()].concat()
    }
}
