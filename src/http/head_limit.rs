//! Requests whose head is too large (431, RFC 6585 section 5): what they get.
//!
//! A page of any host below a common parent domain may set cookies for that domain, which browsers
//! then send with every request, until a server refuses them all. The response therefore explains,
//! and removes the cookies of the site (`Clear-Site-Data`, W3C). It does so only where cookies are
//! the reason: a page of another site could sign its visitors out by a long URL otherwise.

use crate::viewer::html5::page::STYLE;

/// Largest request head, in bytes: the target, and names and values of all fields.
pub const HEAD_MAX: usize = 64 * 1024;
/// Bytes of `Cookie` fields in a head that is too large, from which on cookies are the reason.
const COOKIES_MAX: usize = HEAD_MAX / 2;

/// `Clear-Site-Data` that removes the cookies of the registrable domain.
pub const CLEAR_COOKIES: &str = "\"cookies\"";

/// Why a request head is too large.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeadTooLarge {
    Cookies,
    Other,
}

impl HeadTooLarge {
    /// The reason, given the bytes of all `Cookie` fields.
    #[must_use]
    pub fn of(cookie_bytes: usize) -> Self {
        if cookie_bytes > COOKIES_MAX { Self::Cookies } else { Self::Other }
    }

    /// Whether the head of a request is too large. `fields`: its names and values.
    pub fn check<'a>(
        target: usize,
        fields: impl Iterator<Item = (&'a str, &'a [u8])>,
    ) -> Option<Self> {
        let (mut head, mut cookies) = (target, 0);
        for (name, value) in fields {
            head += name.len() + value.len();
            if name == "cookie" {
                cookies += value.len();
            }
        }
        (head > HEAD_MAX).then(|| Self::of(cookies))
    }

    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Cookies => "Too many cookies",
            Self::Other => "The request is too large",
        }
    }

    /// What happened and what to do, for the user.
    #[must_use]
    pub fn detail(self) -> &'static str {
        match self {
            Self::Cookies => {
                "Your browser sent more cookies than this gateway accepts. Another page of this site has set them. They have been removed now: \
                 load the page again, and sign in again. If it comes back, tell your administrator which application you used last."
            }
            Self::Other => {
                "The address or a header field of this request is longer than this gateway accepts. Shorten it, and try again."
            }
        }
    }

    /// Value of `Clear-Site-Data`, if cookies are to be removed.
    #[must_use]
    pub fn clear_site_data(self) -> Option<&'static str> {
        match self {
            Self::Cookies => Some(CLEAR_COOKIES),
            Self::Other => None,
        }
    }

    /// A page, without scripts and external resources.
    #[must_use]
    pub fn page(self) -> String {
        format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
            <title>{title}</title><style>{STYLE}</style><main><h1>{title}</h1><p>{}</p></main></html>\n",
            self.detail(),
            title = self.title(),
        )
    }
}
