//! CSV cells.

/// A quoted cell (RFC 4180 section 2). Text that a spreadsheet would take for a formula gets an
/// apostrophe, because cells such as the user agent are untrusted.
pub(super) fn csv_cell(text: &str) -> String {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    let guard = if is_formula { "'" } else { "" };
    format!("\"{guard}{}\"", text.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_and_never_formulas() {
        for (text, cell) in [
            ("plain", "\"plain\""),
            ("a,b\"c\r\n", "\"a,b\"\"c\r\n\""),
            ("=HYPERLINK(\"x\")", "\"'=HYPERLINK(\"\"x\"\")\""),
            ("+1", "\"'+1\""),
            ("-1", "\"'-1\""),
            ("@x", "\"'@x\""),
            ("\t=1", "\"'\t=1\""),
        ] {
            assert_eq!(csv_cell(text), cell);
        }
    }
}
