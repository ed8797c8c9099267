//! The rules for the source tree: imports point one way, no file imports another in a circle, a type's name has one
//! meaning, and no file is too long to read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use petgraph::algo::tarjan_scc;
use petgraph::graphmap::DiGraphMap;
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, ItemUse, UseTree, Visibility};

/// Each module of the tracker, and the other modules from which its files may import.
const LAYERS: [(&str, &[&str]); 18] = [
    ("answer", &[]),
    ("cache", &["clock", "eviction", "hash"]),
    ("clock", &[]),
    ("eviction", &["hash"]),
    ("hash", &[]),
    ("metrics", &[]),
    ("topology", &["clock"]),
    ("store", &["clock", "eviction", "hash", "metrics", "topology"]),
    ("share", &["clock", "store", "topology"]),
    ("forward", &["answer", "cache", "clock", "metrics", "topology"]),
    ("share_link", &["clock", "forward", "metrics", "share", "store", "topology"]),
    ("access", &["clock", "forward", "hash", "metrics"]),
    ("tracker", &["answer", "clock", "hash", "metrics", "share", "topology", "store", "forward"]),
    ("torrents", &["clock", "metrics", "topology"]),
    ("frontend", &["access", "answer", "clock", "metrics", "share", "topology", "torrents", "tracker"]),
    ("config", &["access", "forward", "frontend", "share_link", "store", "topology", "tracker"]),
    (
        "app",
        &[
            "access",
            "clock",
            "config",
            "forward",
            "frontend",
            "metrics",
            "share",
            "share_link",
            "store",
            "topology",
            "torrents",
            "tracker",
        ],
    ),
    ("commands", &["access", "config", "forward", "frontend", "share_link"]),
];

/// A file may have at most this many lines, not counting its tests.
const MAX_LINES: usize = 400;

#[test]
fn imports_point_one_way() {
    let tree = Crate::read(Path::new("src"));
    let mut wrong = Vec::new();
    let mut modules = BTreeSet::new();
    for (file, source) in &tree.files {
        let Some(module) = source.path.first() else { continue };
        let allowed = LAYERS.iter().find(|(name, _)| name == module);
        let (_, allowed) = allowed.unwrap_or_else(|| panic!("{} belongs to no layer", file.display()));
        for imported in source.imports.iter().filter_map(|path| path.first()) {
            if imported != module
                && LAYERS.iter().any(|(name, _)| name == imported)
                && !allowed.contains(&imported.as_str())
            {
                wrong.push(format!("{}: crate::{imported}", file.display()));
            }
        }
        modules.insert(module.clone());
    }
    assert_eq!(wrong, [""; 0]);
    assert_eq!(modules.len(), LAYERS.len(), "{modules:?}");
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    for root in [
        "src",
        "crates/certificate/src",
        "crates/daemon/src",
        "crates/settings/src",
        "crates/torrent-cache/src",
        "crates/tracker-protocol/src",
    ] {
        let tree = Crate::read(Path::new(root));
        let mut graph = DiGraphMap::<&Path, ()>::new();
        for (file, source) in &tree.files {
            for imported in source.imports.iter().filter_map(|path| tree.file_of(path)) {
                if imported != file {
                    graph.add_edge(file, imported, ());
                }
            }
        }
        let circles: Vec<_> = tarjan_scc(&graph).into_iter().filter(|files| files.len() > 1).collect();
        let inside = |from: &Path, to: &Path| circles.iter().any(|files| files.contains(&from) && files.contains(&to));
        let edges: Vec<_> = graph.all_edges().filter(|&(from, to, ())| inside(from, to)).collect();
        let edges: Vec<_> =
            edges.iter().map(|(from, to, ())| format!("{} imports {}", from.display(), to.display())).collect();
        assert!(edges.is_empty(), "{edges:#?}");
    }
}

#[test]
fn the_name_of_a_type_has_one_meaning() {
    let mut defined = BTreeMap::<String, Vec<PathBuf>>::new();
    for root in ["src", "crates", "benches", "fuzz/fuzz_targets", "tests/it"] {
        for file in sources(Path::new(root)) {
            for item in parse(&file).items {
                let name = match item {
                    Item::Struct(item) => item.ident,
                    Item::Enum(item) => item.ident,
                    Item::Trait(item) => item.ident,
                    Item::Type(item) => item.ident,
                    _ => continue,
                };
                defined.entry(name.to_string()).or_default().push(file.clone());
            }
        }
    }
    // Each of these types has one definition for Linux and another for other systems. Only one of the two is compiled.
    defined.retain(|name, _| !["Inbox", "Outbox"].contains(&name.as_str()));
    let twice: Vec<_> = defined.into_iter().filter(|(_, files)| files.len() > 1).collect();
    assert!(twice.is_empty(), "{twice:#?}");
}

#[test]
fn no_file_is_too_long_to_read() {
    let long = |file: &PathBuf| {
        let text = fs::read_to_string(file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        code.lines().count() > MAX_LINES
    };
    let test_only = ["tests.rs", "contract.rs", "simulation.rs"];
    let files = ["src", "crates"].into_iter().flat_map(|root| sources(Path::new(root)));
    let long: Vec<_> = files.filter(|file| !test_only.iter().any(|name| file.ends_with(name))).filter(long).collect();
    assert!(long.is_empty(), "{long:#?}");
}

/// The files of a crate, without its tests.
struct Crate {
    files: BTreeMap<PathBuf, SourceFile>,
    by_path: BTreeMap<Vec<String>, PathBuf>,
}

/// What a file imports and exports.
struct SourceFile {
    /// The path of the file's module, such as `frontend`, `http`.
    path: Vec<String>,
    /// The paths of the items that the file uses, from the root of the crate.
    imports: BTreeSet<Vec<String>>,
    /// The re-exports: for each name, the path that the file re-exports.
    exports: BTreeMap<String, Vec<String>>,
}

impl Crate {
    fn read(root: &Path) -> Self {
        let mut files = BTreeMap::new();
        let mut by_path = BTreeMap::new();
        for file in sources(root) {
            let path = module_path(root, &file);
            // Modules for tests may import any module, and so may `main.rs`.
            let is_for_tests = path
                .last()
                .is_some_and(|name| ["tests", "contract", "simulation", "rehearsal"].contains(&name.as_str()));
            if is_for_tests || file.ends_with("main.rs") {
                continue;
            }
            let mut source = SourceFile { path: path.clone(), imports: BTreeSet::new(), exports: BTreeMap::new() };
            source.visit_file(&parse(&file));
            by_path.insert(path, file.clone());
            files.insert(file, source);
        }
        Self { files, by_path }
    }

    /// Returns the file that defines the item at this path. Follows re-exports.
    fn file_of(&self, path: &[String]) -> Option<&Path> {
        let (module, item) = (0..=path.len()).rev().find_map(|end| {
            let file = self.by_path.get(path.get(..end)?)?;
            Some((file, path.get(end)))
        })?;
        match item.and_then(|item| self.files.get(module)?.exports.get(item)) {
            Some(elsewhere) if elsewhere != path => self.file_of(elsewhere),
            // The result is `None` for `lib.rs`, because it only declares modules.
            _ => (module.file_name() != Some("lib.rs".as_ref())).then_some(module),
        }
    }
}

impl SourceFile {
    /// Rewrites a path of this file, so that it starts at the root of the crate. `None` if the path leads into another
    /// crate.
    fn absolute(&self, path: &[String]) -> Option<Vec<String>> {
        let mut base = self.path.clone();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => {
                base.clear();
                rest = rest.get(1..)?;
            }
            "self" => rest = rest.get(1..)?,
            "super" => {
                while rest.first().is_some_and(|first| first == "super") {
                    base.pop();
                    rest = rest.get(1..)?;
                }
            }
            _ => return None,
        }
        base.extend_from_slice(rest);
        Some(base)
    }

    fn take_use(&mut self, tree: &UseTree, prefix: &[String], is_export: bool) {
        match tree {
            UseTree::Path(path) => self.take_use(&path.tree, &[prefix, &[path.ident.to_string()]].concat(), is_export),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.take_use(tree, prefix, is_export)),
            UseTree::Glob(_) => self.take_path(prefix),
            UseTree::Name(name) if name.ident == "self" => self.take_path(prefix),
            UseTree::Name(name) => self.take_name(prefix, &name.ident.to_string(), &name.ident.to_string(), is_export),
            UseTree::Rename(name) => {
                self.take_name(prefix, &name.ident.to_string(), &name.rename.to_string(), is_export);
            }
        }
    }

    fn take_name(&mut self, prefix: &[String], name: &str, here: &str, is_export: bool) {
        let path = [prefix, &[name.to_owned()]].concat();
        // `pub use` may name a child module without `self::`.
        let path = match self.absolute(&path) {
            Some(path) => path,
            None if is_export => [&self.path[..], &path].concat(),
            None => return,
        };
        if is_export {
            self.exports.insert(here.to_owned(), path);
        } else {
            self.imports.insert(path);
        }
    }

    fn take_path(&mut self, path: &[String]) {
        self.imports.extend(self.absolute(path));
    }
}

impl<'a> Visit<'a> for SourceFile {
    fn visit_item_mod(&mut self, module: &'a ItemMod) {
        if !is_for_tests(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_use(&mut self, item: &'a ItemUse) {
        if !is_for_tests(&item.attrs) {
            let is_export = !matches!(item.vis, Visibility::Inherited);
            self.take_use(&item.tree, &[], is_export);
        }
    }

    /// Skips visibilities, because the path in `pub(in super::super)` is no import.
    fn visit_visibility(&mut self, _: &'a Visibility) {}

    fn visit_path(&mut self, path: &'a syn::Path) {
        let segments: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if segments.len() > 1 && segments.first().is_some_and(|first| first != "self") {
            self.take_path(&segments);
        }
        visit::visit_path(self, path);
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Ident>().is_ok_and(|condition| condition == "test")
    })
}

/// Returns the path of a file's module. For `src/frontend/http/mod.rs` this is `frontend::http`.
fn module_path(root: &Path, file: &Path) -> Vec<String> {
    let below = file.strip_prefix(root).unwrap().with_extension("");
    let mut path: Vec<_> = below.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
    if path.last().is_some_and(|last| ["mod", "lib", "main"].contains(&last.as_str())) {
        path.pop();
    }
    path
}

fn parse(file: &Path) -> syn::File {
    syn::parse_file(&fs::read_to_string(file).unwrap()).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let own = files.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    own.chain(folders.iter().flat_map(|folder| sources(folder))).collect()
}
