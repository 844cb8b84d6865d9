//! Clipboard format lists (MS-RDPECLIP 2.2.3.1): removes file formats where files are forbidden.

use super::RdpError;
use super::reader::Reader;

/// `CB_ASCII_NAMES` of a message's flags: short names are in ASCII, not in UTF-16.
const ASCII_NAMES: u16 = 0x0004;
/// Length of a short name.
const SHORT_NAME: usize = 32;
/// `CF_HDROP`: a list of files, without a name.
pub(super) const HDROP: u32 = 15;
/// Most file formats that are remembered by id; a list with more is refused.
const MAX_FILE_FORMATS: usize = 32;
/// Prefixes of the names of file formats: descriptors, contents and names of Windows' shell, and
/// those of Linux desktops. Short names are cut to 15 characters, so only prefixes can be compared.
/// Case is ignored (Windows compares names so).
const FILE_NAMES: &[&str] = &[
    "FileGroupDesc",
    "FileContents",
    "FileName",
    "Shell IDList",
    "x-special/gnome",
    "application/x-kde",
];

/// A list without file formats.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FilteredFormats {
    /// The remaining entries, as they were on the wire.
    pub(super) kept: Vec<u8>,
    /// Ids of the removed formats.
    pub(super) file_formats: Vec<u32>,
}

/// Removes the file formats from a list: the message without its header. `long` selects the variant
/// of the list; `flags` are the message's.
///
/// # Errors
/// [`RdpError::Malformed`] when it is not a list of that variant.
pub(super) fn filter_formats(
    list: &[u8],
    long: bool,
    flags: u16,
) -> Result<FilteredFormats, RdpError> {
    let mut reader = Reader::new(list, "clipboard format list");
    let (mut kept, mut files) = (Vec::with_capacity(list.len()), Vec::new());
    while !reader.rest().is_empty() {
        let entry = reader.rest();
        let id = reader.u32()?;
        let is_file = if long {
            is_file_name(utf16_units(long_name(&mut reader)?))
        } else {
            is_file_short_name(reader.take(SHORT_NAME)?, flags)
        };
        if !is_file && id != HDROP {
            kept.extend_from_slice(
                entry.get(..entry.len() - reader.rest().len()).unwrap_or_default(),
            );
        } else if files.len() < MAX_FILE_FORMATS {
            files.push(id);
        } else {
            return Err(reader.malformed());
        }
    }
    Ok(FilteredFormats { kept, file_formats: files })
}

/// A name in UTF-16, without its terminator.
fn long_name<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], RdpError> {
    let units =
        reader.rest().chunks_exact(2).position(|unit| unit == [0, 0]).ok_or(reader.malformed())?;
    let name = reader.take(units * 2)?;
    reader.take(2)?;
    Ok(name)
}

/// A short name is read in both encodings, whatever the flags say: a peer may ignore them.
fn is_file_short_name(name: &[u8], flags: u16) -> bool {
    let ascii = is_file_name(name.iter().map(|&b| u16::from(b)));
    ascii || flags & ASCII_NAMES == 0 && is_file_name(utf16_units(name))
}

fn utf16_units(name: &[u8]) -> impl Iterator<Item = u16> + Clone {
    name.chunks_exact(2).filter_map(|unit| unit.first_chunk().copied().map(u16::from_le_bytes))
}

fn is_file_name(name: impl Iterator<Item = u16> + Clone) -> bool {
    let equal = |expected: u8, actual: u16| {
        u8::try_from(actual).is_ok_and(|actual| actual.eq_ignore_ascii_case(&expected))
    };
    FILE_NAMES.iter().any(|file| {
        let mut name = name.clone();
        file.bytes().all(|expected| name.next().is_some_and(|actual| equal(expected, actual)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn long(entries: &[(u32, &str)]) -> Vec<u8> {
        let entry =
            |(id, name): &(u32, &str)| [&id.to_le_bytes()[..], &wide_of(name), &[0, 0]].concat();
        entries.iter().flat_map(entry).collect()
    }

    fn wide_of(name: &str) -> Vec<u8> {
        name.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }

    fn short_entry(id: u32, name: &[u8]) -> Vec<u8> {
        let mut entry = id.to_le_bytes().to_vec();
        entry.extend(name);
        entry.resize(36, 0);
        entry
    }

    #[test]
    fn file_formats_are_removed_from_long_names() {
        let list = long(&[
            (13, ""),
            (0xc0de, "filegroupdescriptorw"),
            (15, ""),
            (0xc004, "HTML Format"),
            (7, "FileContents"),
        ]);
        let expected = FilteredFormats {
            kept: long(&[(13, ""), (0xc004, "HTML Format")]),
            file_formats: vec![0xc0de, 15, 7],
        };
        assert_eq!(filter_formats(&list, true, 0), Ok(expected));
    }

    #[test]
    fn file_formats_are_removed_from_short_names() {
        let text = short_entry(13, b"");
        let truncated = short_entry(0xc0de, &wide_of("FileGroupDescri"));
        let ascii = short_entry(0xc0df, b"FileGroupDescriptorW");
        let list = [&text[..], &truncated, &ascii].concat();
        assert_eq!(
            filter_formats(&list, false, 0),
            Ok(FilteredFormats { kept: text.clone(), file_formats: vec![0xc0de, 0xc0df] })
        );
        assert_eq!(
            filter_formats(&[&text[..], &ascii].concat(), false, ASCII_NAMES),
            Ok(FilteredFormats { kept: text, file_formats: vec![0xc0df] })
        );
    }

    #[test]
    fn an_invalid_list_is_refused() {
        for n in [1, 4, 5, 7] {
            assert!(filter_formats(&long(&[(13, "a")])[..n], true, 0).is_err(), "{n}");
        }
        assert!(filter_formats(&[0; 35], false, 0).is_err());
        assert!(filter_formats(&[0; 36 * 3], false, 0).is_ok());
        assert!(filter_formats(&long(&[(15, ""); MAX_FILE_FORMATS + 1]), true, 0).is_err());
    }
}
