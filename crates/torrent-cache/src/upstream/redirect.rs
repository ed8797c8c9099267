//! Decides which redirects are followed.

use http::StatusCode;
use thiserror::Error;
use url::Url;

use super::origin::{UpstreamOrigin, UpstreamScheme, Upstreams};

/// The most redirects of one request.
pub(super) const MAX_REDIRECTS: usize = 5;

/// Why a redirect is not followed. The error does not contain the target, because a signed URL is a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RedirectFault {
    /// There were more than five redirects.
    #[error("more than {MAX_REDIRECTS} redirects")]
    TooMany,
    /// `Location` is missing or not a URL.
    #[error("a redirect without a valid Location")]
    Location,
    /// The target is neither http nor https.
    #[error("a redirect to neither http nor https")]
    Scheme,
    /// The redirect leads from https to http.
    #[error("a redirect from https to http")]
    Downgrade,
    /// The target has a user name or a password.
    #[error("a redirect to a URL with a user name or password")]
    Login,
    /// Another host redirects to a listed host, but to a port that is not listed.
    #[error("a redirect to an unlisted port of a listed host")]
    Port,
}

/// Whether a reply with this status says that the resource is elsewhere.
pub(super) fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Returns the URL and the server to which a redirect leads. The address of the server is checked only when the server
/// is dialled.
pub(super) fn target(
    from: &Url,
    location: &str,
    upstreams: &Upstreams,
) -> Result<(Url, UpstreamOrigin), RedirectFault> {
    let source = UpstreamOrigin::of(from).ok_or(RedirectFault::Location)?;
    let mut to = from.join(location).map_err(|_| RedirectFault::Location)?;
    if !matches!(to.scheme(), "http" | "https") {
        return Err(RedirectFault::Scheme);
    }
    let target = UpstreamOrigin::of(&to).ok_or(RedirectFault::Location)?;
    if (source.scheme(), target.scheme()) == (UpstreamScheme::Https, UpstreamScheme::Http) {
        return Err(RedirectFault::Downgrade);
    }
    if !to.username().is_empty() || to.password().is_some() {
        return Err(RedirectFault::Login);
    }
    // A listed host can have a private address. Another host must not redirect to that host's other services.
    if target.host() != source.host() && upstreams.lists_host(target.host()) && !upstreams.lists(&target) {
        return Err(RedirectFault::Port);
    }
    to.set_fragment(None);
    Ok((to, target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules() {
        let listed = ["http://10.0.0.5:5000", "quay.io"].map(|origin| origin.parse().unwrap());
        let upstreams = Upstreams::new("docker.io".parse().unwrap(), listed.to_vec());
        let follow = |from: &str, location: &str| {
            target(&Url::parse(from).unwrap(), location, &upstreams).map(|(url, _)| url.to_string())
        };
        let blob = "https://quay.io/v2/a/blobs/x";
        for (location, to) in [
            ("https://cdn.example/x?sig=1", "https://cdn.example/x?sig=1"),
            ("/y", "https://quay.io/y"),
            ("y?z#part", "https://quay.io/v2/a/blobs/y?z"),
            ("//other.example/y", "https://other.example/y"),
            ("https://quay.io:8443/y", "https://quay.io:8443/y"),
        ] {
            assert_eq!(follow(blob, location), Ok(to.to_owned()), "{location}");
        }
        for (location, fault) in [
            ("http://cdn.example/x", RedirectFault::Downgrade),
            ("http://quay.io/x", RedirectFault::Downgrade),
            ("https://user@cdn.example/", RedirectFault::Login),
            ("https://:pass@cdn.example/", RedirectFault::Login),
            ("file:///etc/passwd", RedirectFault::Scheme),
            ("gopher://10.0.0.5:5000/", RedirectFault::Scheme),
            ("https://[", RedirectFault::Location),
            ("https://a../", RedirectFault::Location),
            ("https://10.0.0.5:22/", RedirectFault::Port),
            ("https://0xa000005/", RedirectFault::Port),
        ] {
            assert_eq!(follow(blob, location), Err(fault), "{location}");
        }
        assert_eq!(follow("http://10.0.0.5:5000/a", "http://cdn.example/"), Ok("http://cdn.example/".to_owned()));
        assert_eq!(follow("http://10.0.0.5:5000/a", "https://cdn.example/"), Ok("https://cdn.example/".to_owned()));
    }
}
