//! Paths for announces and scrapes that replace the usual paths. A Chihaya configuration file sets them.

use std::fmt;

use tracker_protocol::route::Route;

/// The paths of announces and scrapes. Announces and scrapes are not answered at other paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackerPaths {
    /// Where announces are answered.
    pub announce: Vec<RoutePattern>,
    /// Where scrapes are answered.
    pub scrape: Vec<RoutePattern>,
}

impl TrackerPaths {
    /// The resource that a path names. The root names a resource only if a pattern matches it.
    pub fn route(&self, path: &[u8]) -> Route {
        let is_one_of = |patterns: &[RoutePattern]| patterns.iter().any(|pattern| pattern.matches(path));
        if is_one_of(&self.announce) {
            Route::Announce
        } else if is_one_of(&self.scrape) {
            Route::Scrape
        } else {
            Route::Other
        }
    }
}

/// A path in the notation of Go's httprouter: `/announce`, `/:passkey/announce`, `/t/*rest`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutePattern(String);

impl RoutePattern {
    /// Parses a path. `None` if httprouter would refuse it. A `:name` ends a segment; a `*name` is the whole last
    /// segment.
    pub fn new(text: &str) -> Option<Self> {
        let segments: Vec<_> = text.strip_prefix('/')?.split('/').collect();
        let last = segments.len() - 1;
        let is_valid = |(n, segment): (usize, &&str)| match segment.split_once([':', '*']) {
            None => true,
            Some((_, name)) if name.is_empty() || name.contains([':', '*']) => false,
            Some(("", _)) if segment.starts_with('*') => n == last,
            // httprouter accepts `/user_:name`, too, but not `/file*rest`.
            Some((before, _)) => !segment.get(before.len()..).is_some_and(|rest| rest.starts_with('*')),
        };
        let is_text = text.chars().all(|c| !c.is_control() && !c.is_whitespace() && c != '?' && c != '#');
        (is_text && segments.iter().enumerate().all(is_valid)).then(|| Self(text.to_owned()))
    }

    /// Whether the pattern matches this path. A `:name` matches a whole segment or its end, but no empty text. A
    /// `*name` matches everything after the slash before it.
    fn matches(&self, path: &[u8]) -> bool {
        let mut segments = path.split(|&byte| byte == b'/');
        for wanted in self.0.split('/') {
            if wanted.starts_with('*') {
                return segments.next().is_some();
            }
            let Some(segment) = segments.next() else { return false };
            let fits = match wanted.split_once(':') {
                None => segment == wanted.as_bytes(),
                Some((before, _)) => segment.strip_prefix(before.as_bytes()).is_some_and(|name| !name.is_empty()),
            };
            if !fits {
                return false;
            }
        }
        segments.next().is_none()
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RoutePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_as_httprouter_takes_them() {
        for text in
            ["/", "/announce", "/announce.php", "/:passkey/announce", "/a/:b/:c", "/t/*rest", "/user_:name", "/a/"]
        {
            assert_eq!(RoutePattern::new(text).unwrap().as_str(), text);
        }
        for text in ["", "announce", "/:", "/*", "/a/*rest/b", "/a*rest", "/:a:b", "/a b", "/announce?x=1", "/\n"] {
            assert_eq!(RoutePattern::new(text), None, "{text:?}");
        }
    }

    #[test]
    fn paths_that_a_pattern_stands_for() {
        for (pattern, path, expected) in [
            ("/announce", "/announce", true),
            ("/announce", "/announce/", false),
            ("/announce", "/", false),
            ("/:passkey/announce", "/k/announce", true),
            ("/:passkey/announce", "//announce", false),
            ("/:passkey/announce", "/a/b/announce", false),
            ("/:passkey/announce", "/announce", false),
            ("/t/*rest", "/t/", true),
            ("/t/*rest", "/t/a/b", true),
            ("/t/*rest", "/t", false),
            ("/user_:name", "/user_x", true),
            ("/user_:name", "/user_", false),
            ("/", "/", true),
        ] {
            assert_eq!(RoutePattern::new(pattern).unwrap().matches(path.as_bytes()), expected, "{pattern} {path}");
        }
    }
}
