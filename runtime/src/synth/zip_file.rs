//! A zip archive of stored records, laid out before its contents are known: as `torch.save` writes it.
//!
//! The data of every record begins at a multiple of 64 bytes, behind an extra field `FB` of the right length. Sizes and
//! offsets that 32 bits cannot hold go into the fields of zip64, whose end record is always there.

/// Alignment of data in the file.
const ALIGNMENT: u64 = 64;
/// What 16 and 32 bits hold when the number is elsewhere.
const ELSEWHERE_16: u16 = u16::MAX;
const ELSEWHERE: u32 = u32::MAX;
const LOCAL_HEADER: u64 = 30;

/// A record of the archive.
struct Record {
    name: String,
    header_offset: u64,
    data_offset: u64,
    bytes: u64,
    data: Data,
}

/// Where the data of a record come from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Data {
    /// Known now.
    Inline(Vec<u8>),
    /// The content of this index.
    Content(usize),
}

/// The plan of an archive.
pub(super) struct Archive {
    records: Vec<Record>,
    /// First byte behind the data.
    end: u64,
    /// The first number that goes into the fields of zip64.
    limit: u64,
}

/// Bytes and where they go.
pub(super) struct Piece {
    pub(super) offset: u64,
    pub(super) bytes: Vec<u8>,
}

impl Archive {
    /// An empty archive.
    pub(super) fn new() -> Self {
        Self { records: Vec::new(), end: 0, limit: u64::from(ELSEWHERE) }
    }

    /// Appends a record with these bytes.
    pub(super) fn push_inline(&mut self, name: String, data: Vec<u8>) {
        self.push(name, data.len() as u64, Data::Inline(data));
    }

    /// Appends a record of `bytes` bytes, which are content `index`; returns where they go.
    pub(super) fn push_content(&mut self, name: String, bytes: u64, index: usize) -> u64 {
        self.push(name, bytes, Data::Content(index))
    }

    fn push(&mut self, name: String, bytes: u64, data: Data) -> u64 {
        let header_offset = self.end;
        let zip64 = if bytes >= self.limit { 20 } else { 0 };
        let before = header_offset + LOCAL_HEADER + name.len() as u64 + zip64 + 4;
        let data_offset = before.next_multiple_of(ALIGNMENT);
        self.end = data_offset + bytes;
        self.records.push(Record { name, header_offset, data_offset, bytes, data });
        data_offset
    }

    /// Length of the whole file.
    pub(super) fn bytes(&self) -> u64 {
        self.end + self.tail(&[]).len() as u64
    }

    /// Everything but the contents, whose CRC-32s are `checksums`.
    pub(super) fn pieces(&self, checksums: &[u32]) -> Vec<Piece> {
        let mut pieces = Vec::with_capacity(self.records.len() + 1);
        for record in &self.records {
            let mut bytes = self.local_header(record, record.checksum(checksums));
            if let Data::Inline(data) = &record.data {
                bytes.extend(data);
            }
            pieces.push(Piece { offset: record.header_offset, bytes });
        }
        pieces.push(Piece { offset: self.end, bytes: self.tail(checksums) });
        pieces
    }

    fn local_header(&self, record: &Record, checksum: u32) -> Vec<u8> {
        let mut out = Fields(Vec::new());
        let large = record.bytes >= self.limit;
        let size = if large { ELSEWHERE } else { record.bytes as u32 };
        out.u32(0x0403_4b50).u16(if large { 45 } else { 20 });
        out.common(checksum, size, record.name.len());
        let zip64 = if large { 20 } else { 0 };
        let extra = record.data_offset - record.header_offset - LOCAL_HEADER - record.name.len() as u64;
        out.u16(extra as u16);
        out.0.extend(record.name.bytes());
        if large {
            out.u16(1).u16(16).u64(record.bytes).u64(record.bytes);
        }
        let padding = (extra - zip64 - 4) as u16;
        out.0.extend(b"FB");
        out.u16(padding);
        out.0.resize(out.0.len() + usize::from(padding), b'Z');
        out.0
    }

    /// The central directory and what ends the file.
    fn tail(&self, checksums: &[u32]) -> Vec<u8> {
        let mut out = Fields(Vec::new());
        for record in &self.records {
            self.central_header(record, record.checksum(checksums), &mut out);
        }
        let (size, count) = (out.0.len() as u64, self.records.len() as u64);
        // End of central directory, zip64; its locator; and the one that every reader looks for.
        out.u32(0x0606_4b50)
            .u64(44)
            .u16(45)
            .u16(45)
            .u32(0)
            .u32(0)
            .u64(count)
            .u64(count)
            .u64(size)
            .u64(self.end);
        out.u32(0x0706_4b50).u32(0).u64(self.end + size).u32(1);
        let count = u16::try_from(count).unwrap_or(ELSEWHERE_16);
        let [size, offset] = [size, self.end].map(|number| self.small(number));
        out.u32(0x0605_4b50).u16(0).u16(0).u16(count).u16(count).u32(size).u32(offset).u16(0);
        out.0
    }

    fn central_header(&self, record: &Record, checksum: u32, out: &mut Fields) {
        let mut extra = Fields(Vec::new());
        let (large, far) = (record.bytes >= self.limit, record.header_offset >= self.limit);
        if large || far {
            extra.u16(1).u16(if large { 16 } else { 0 } + if far { 8 } else { 0 });
            if large {
                extra.u64(record.bytes).u64(record.bytes);
            }
            if far {
                extra.u64(record.header_offset);
            }
        }
        let version = if large || far { 45 } else { 20 };
        out.u32(0x0201_4b50).u16(0).u16(version);
        out.common(checksum, self.small(record.bytes), record.name.len());
        // Comment, disk, two words of attributes, place of the local header.
        out.u16(extra.0.len() as u16).u16(0).u16(0).u16(0).u32(0).u32(self.small(record.header_offset));
        out.0.extend(record.name.bytes());
        out.0.extend(extra.0);
    }

    /// The number, or that it is in a field of zip64.
    fn small(&self, number: u64) -> u32 {
        if number >= self.limit { ELSEWHERE } else { number as u32 }
    }
}

impl Record {
    fn checksum(&self, checksums: &[u32]) -> u32 {
        match &self.data {
            Data::Inline(data) => crc32fast::hash(data),
            Data::Content(index) => checksums.get(*index).copied().unwrap_or_default(),
        }
    }
}

/// Little-endian fields, one after the other.
struct Fields(Vec<u8>);

impl Fields {
    fn u16(&mut self, value: u16) -> &mut Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    /// What local and central header share: flags, method "stored", no time, checksum, both sizes, length of the name.
    fn common(&mut self, checksum: u32, size: u32, name: usize) {
        self.u16(0).u16(0).u16(0).u16(0).u32(checksum).u32(size).u32(size).u16(name as u16);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Cursor, Read};

    /// The archive of `records`, the second half of which are contents, as bytes.
    fn written(limit: u64) -> Vec<u8> {
        let mut archive = Archive { limit, ..Archive::new() };
        let content: Vec<u8> = (0..=255).collect();
        archive.push_inline("a/data.pkl".into(), b"pickle".to_vec());
        let offset = archive.push_content("a/data/0".into(), content.len() as u64, 0);
        archive.push_inline("a/version".into(), b"3\n".to_vec());
        assert!(offset.is_multiple_of(ALIGNMENT));
        let mut file = vec![0; archive.bytes() as usize];
        let mut put =
            |offset: u64, bytes: &[u8]| file[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        put(offset, &content);
        let pieces = archive.pieces(&[crc32fast::hash(&content)]);
        pieces.iter().for_each(|piece| put(piece.offset, &piece.bytes));
        file
    }

    #[test]
    fn another_reader_finds_every_record_with_and_without_zip64() {
        for limit in [u64::from(u32::MAX), 100, 0] {
            let mut archive = zip::ZipArchive::new(Cursor::new(written(limit))).unwrap();
            assert_eq!(archive.len(), 3, "limit {limit}");
            let mut read = |name: &str| {
                let mut bytes = Vec::new();
                archive.by_name(name).unwrap().read_to_end(&mut bytes).unwrap(); // checks the CRC-32
                bytes
            };
            assert_eq!(read("a/data.pkl"), b"pickle");
            assert_eq!(read("a/data/0"), (0..=255).collect::<Vec<u8>>());
            assert_eq!(read("a/version"), b"3\n");
        }
    }

    #[test]
    fn a_wrong_checksum_is_noticed() {
        let mut file = written(u64::from(u32::MAX));
        let at = file.windows(256).position(|window| window.iter().copied().eq(0..=255)).unwrap();
        file[at] ^= 1;
        let mut archive = zip::ZipArchive::new(Cursor::new(file)).unwrap();
        assert!(archive.by_name("a/data/0").unwrap().read_to_end(&mut Vec::new()).is_err());
    }
}
