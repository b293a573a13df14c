//! From the bytes of a file to its text: UTF-8, with or without the mark that some editors put before it.

use std::ops::Range;

/// A file in another encoding, as far as it can be shown.
#[derive(Debug)]
pub(super) struct Misread {
    pub(super) text: String,
    /// The bytes of `text` that show it.
    pub(super) span: Range<usize>,
    pub(super) message: String,
    pub(super) help: &'static str,
    /// What stands for letters that are lost, where the rest can be read.
    pub(super) stand_in: Option<char>,
}

const BYTE_ORDER_MARK: char = '\u{feff}';

/// # Errors
/// The bytes are no UTF-8 text.
pub(super) fn decode(bytes: Vec<u8>) -> Result<String, Misread> {
    if let Some(text) = utf16(&bytes) {
        let first = text.chars().next().map_or(0, char::len_utf8);
        let message = "the file is UTF-16 text, not UTF-8".to_owned();
        let help = "save it as UTF-8; some editors call what it is now \"Unicode\"";
        return Err(Misread { text, span: 0..first, message, help, stand_in: None });
    }
    let mut text = String::from_utf8(bytes)
        .map_err(|error| foreign(error.as_bytes(), error.utf8_error().valid_up_to()))?;
    if text.starts_with(BYTE_ORDER_MARK) {
        text.drain(..BYTE_ORDER_MARK.len_utf8());
    }
    if let Some(at) = text.find(BYTE_ORDER_MARK) {
        let text = text.replace(BYTE_ORDER_MARK, "");
        let marked = text[at..].chars().next().map_or(0, char::len_utf8);
        let message =
            "a byte order mark stands inside of the file, before this: it is not seen in most editors"
                .to_owned();
        let help = "delete what stands before it on the line, and type it anew; files with such marks were joined here";
        return Err(Misread { text, span: at..at + marked, message, help, stand_in: None });
    }
    match text.find('\0') {
        None => Ok(text),
        Some(at) => Err(Misread {
            text,
            span: at..at + 1,
            message: "the file holds NUL bytes: it is no text, or was not written to its end".to_owned(),
            help: "write it anew, or bring it back from a backup",
            stand_in: Some('\0'),
        }),
    }
}

fn foreign(bytes: &[u8], at: usize) -> Misread {
    let byte = bytes.get(at).copied().unwrap_or_default();
    // With NUL bytes it is no text at all: what follows would be misread line by line.
    let line_end = || bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |end| at + end);
    let end = if bytes.contains(&0) { line_end() } else { bytes.len() };
    Misread {
        // What comes before the place is valid, so the place stays where it is.
        text: String::from_utf8_lossy(&bytes[..end]).into_owned(),
        span: at..at + char::REPLACEMENT_CHARACTER.len_utf8(),
        message: format!("the file is not UTF-8 text: no letter begins with the byte 0x{byte:02X} here"),
        help: "save it as UTF-8; it may be in another encoding, such as GBK or Latin-1",
        stand_in: Some(char::REPLACEMENT_CHARACTER),
    }
}

/// The text, where the file begins as one in UTF-16 does: by its mark, or by a Latin letter of two bytes.
fn utf16(bytes: &[u8]) -> Option<String> {
    let to_unit = match bytes {
        [0xFF, 0xFE, ..] | [1..=0xFF, 0, ..] => u16::from_le_bytes,
        [0xFE, 0xFF, ..] | [0, 1..=0xFF, ..] => u16::from_be_bytes,
        _ => return None,
    };
    let units = bytes.chunks_exact(2).map(|pair| to_unit([pair[0], pair[1]]));
    let text: String =
        char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    Some(text.trim_start_matches(BYTE_ORDER_MARK).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_before_utf8_is_no_part_of_the_text() {
        assert_eq!(decode(b"\xEF\xBB\xBF[a]".to_vec()).unwrap(), "[a]");
        assert_eq!(decode("é".into()).unwrap(), "é");
        assert_eq!(decode(Vec::new()).unwrap(), "");
    }

    #[test]
    fn utf16_is_known_by_its_mark_or_by_its_letters_and_shown_as_text() {
        for bytes in [&b"\xFF\xFE[\0a\0]\0"[..], b"\xFE\xFF\0[\0a\0]", b"[\0a\0]\0", b"\0[\0a\0]"] {
            let misread = decode(bytes.to_vec()).unwrap_err();
            assert_eq!((misread.text.as_str(), misread.span), ("[a]", 0..1));
            assert!(misread.message.contains("UTF-16"), "{}", misread.message);
        }
    }

    #[test]
    fn another_encoding_is_told_with_the_byte_and_nul_bytes_are_no_encoding() {
        let misread = decode(b"# caf\xE9\n".to_vec()).unwrap_err();
        assert!(misread.message.contains("0xE9"), "{}", misread.message);
        assert_eq!(&misread.text[misread.span], "\u{fffd}");
        let misread = decode(b"[a]\n\0\0\0".to_vec()).unwrap_err();
        assert!(misread.message.contains("NUL") && misread.span == (4..5), "{misread:?}");
        assert!(decode(vec![0; 8]).unwrap_err().message.contains("NUL"));
    }
}
