use super::*;
use proptest::prelude::*;
use std::fmt::Write;

#[test]
fn paths_that_users_type_and_clients_build() {
    for (path, expected) in [
        ("/announce", Route::Announce),
        ("/announce.php", Route::Announce),
        ("//announce", Route::Announce),
        ("/announce/", Route::Announce),
        ("///announce///", Route::Announce),
        ("/announce.php/", Route::Announce),
        ("/./announce", Route::Announce),
        ("announce", Route::Announce),
        ("/Announce", Route::Announce),
        ("/ANNOUNCE.PHP", Route::Announce),
        ("/%61nnounce", Route::Announce),
        ("/announc%65/", Route::Announce),
        ("/announce%20", Route::Announce),
        ("/scrape", Route::Scrape),
        ("//scrape/", Route::Scrape),
        ("/scrape.php//", Route::Scrape),
        ("/", Route::Root),
        ("", Route::Root),
        ("//", Route::Root),
        ("/announcement", Route::Other),
        ("/announce.php5", Route::Other),
        ("/announce/scrape", Route::Other),
        ("/x/announce", Route::Other),
        ("/announce/x", Route::Other),
        ("/%zzannounce", Route::Other),
        ("/%2fannounce", Route::Other),
        ("/+announce", Route::Other),
        ("/health", Route::Other),
    ] {
        assert_eq!(route(path.as_bytes()), expected, "{path}");
    }
}

#[test]
fn targets_of_every_form() {
    for (target, path, query) in [
        ("/announce?a=1?b", "/announce", "a=1?b"),
        ("/announce", "/announce", ""),
        ("http://tracker.lan/announce?a", "/announce", "a"),
        ("HTTP://tracker.lan:8080/announce?a", "/announce", "a"),
        ("http://tracker.lan?a", "", "a"),
        ("/announce#a", "/announce", ""),
        ("/announce#a?b=c", "/announce", "b=c"),
        ("/announce?b=c#", "/announce", "b=c"),
        ("/announce?b=c#d", "/announce", "b=c"),
        ("/announce?b=#c&d=e", "/announce", "b=#c&d=e"),
        ("/announce?b=#c&d=e#f", "/announce", "b=#c&d=e"),
        ("/announce#a?b=c#d", "/announce", "b=c"),
        ("http://tracker.lan", "", ""),
        ("udp://tracker.lan:6969/announce", "/announce", ""),
        ("announce?a", "announce", "a"),
        ("announce?x=http://y/z", "announce", "x=http://y/z"),
        ("/x?u=http://y/z", "/x", "u=http://y/z"),
        ("", "", ""),
        ("*", "*", ""),
    ] {
        assert_eq!(split(target.as_bytes()), (path.as_bytes(), query.as_bytes()), "{target}");
    }
    assert!(names_torrent(b"a&info%5Fhash=x") && !names_torrent(b"hash=info_hash"));
}

proptest! {
    #[test]
    fn slashes_case_and_escapes_make_no_difference(
        (name, expected) in prop_oneof![
            Just(("announce", Route::Announce)), Just(("announce.php", Route::Announce)),
            Just(("scrape", Route::Scrape)), Just(("scrape.php", Route::Scrape)),
        ],
        before in 1..4_usize,
        behind in 0..4_usize,
        how in any::<[u8; 12]>(),
    ) {
        let mut path = "/".repeat(before);
        for (letter, how) in name.chars().zip(how) {
            match how % 3 {
                0 => path.push(letter),
                1 => path.push(letter.to_ascii_uppercase()),
                _ => write!(path, "%{:02x}", u32::from(letter)).unwrap(),
            }
        }
        path.push_str(&"/".repeat(behind));
        prop_assert_eq!(route(path.as_bytes()), expected, "{}", path);
    }

    #[test]
    fn any_path_names_something(path in any::<Vec<u8>>()) {
        let _ = (route(&path), split(&path));
    }
}
