//! Cookies of a request by their exact name (RFC 6265 section 5.4).
//!
//! A name is compared byte for byte. A parser that decodes names would take `__Host%2Dportcullis`,
//! which any page of the parent domain may set, for `__Host-portcullis`, which only this host may;
//! and one that gives up at a cookie it cannot decode would let such a page hide all others.

/// What a request carries under one name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RequestCookie<'a> {
    Missing,
    Once(&'a str),
    /// More than once: at least one of them was set by a page of another host or for another path,
    /// and which one comes first is their choice.
    Repeated,
}

/// Finds a cookie in the `Cookie` fields of a request; HTTP/2 may send several (RFC 9113 section
/// 8.2.3). One without a value, or whose value is not text, counts as missing.
pub fn find<'a>(fields: impl IntoIterator<Item = &'a [u8]>, name: &str) -> RequestCookie<'a> {
    let pairs = fields.into_iter().flat_map(|field| field.split(|b| *b == b';'));
    let mut values = pairs.filter_map(|pair| {
        let at = pair.iter().position(|b| *b == b'=')?;
        let (key, value) = pair.split_at(at);
        (key.trim_ascii() == name.as_bytes()).then(|| value[1..].trim_ascii())
    });
    match (values.next(), values.next()) {
        (_, Some(_)) => RequestCookie::Repeated,
        (Some(value), None) if !value.is_empty() => {
            std::str::from_utf8(value).map_or(RequestCookie::Missing, RequestCookie::Once)
        }
        (Some(_) | None, None) => RequestCookie::Missing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_name_counts() {
        let sent = |field: &'static str| find([field.as_bytes()], "__Host-a");
        for (field, found) in [
            ("__Host-a=1", RequestCookie::Once("1")),
            ("x=1; __Host-a=2;y=3", RequestCookie::Once("2")),
            ("__Host-a = 2 ", RequestCookie::Once("2")),
            ("__Host-a=b=c", RequestCookie::Once("b=c")),
            ("__Host%2Da=1", RequestCookie::Missing),
            ("__host-a=1", RequestCookie::Missing),
            ("__Host-ab=1; a__Host-a=1", RequestCookie::Missing),
            ("__Host-a", RequestCookie::Missing),
            ("__Host-a=", RequestCookie::Missing),
            ("", RequestCookie::Missing),
            ("x=%ff; =; __Host-a=1", RequestCookie::Once("1")),
            ("__Host-a=1; __Host-a=1", RequestCookie::Repeated),
            ("__Host-a=1; x=2; __Host-a=", RequestCookie::Repeated),
        ] {
            assert_eq!(sent(field), found, "{field}");
        }
        let fields = [&b"x=\xff"[..], b"__Host-a=1"];
        assert_eq!(find(fields, "__Host-a"), RequestCookie::Once("1"), "another one is no text");
        assert_eq!(find([&b"__Host-a=1"[..], b"__Host-a=2"], "__Host-a"), RequestCookie::Repeated);
    }
}
