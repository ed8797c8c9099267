//! Who may announce.

use std::path::PathBuf;

use crate::config::about::{Section, Takes};
use crate::config::origin::Flag;
use crate::config::setting::{Setting, Unset};
use crate::config::values::value;

settings! {
    ACCESS: Setting<PathBuf, Unset> = Setting {
        section: Section::Access,
        flag: Some(Flag::long_global("access")),
        variable: "ACCESS_FILE",
        takes: Takes::File,
        help: "Apply the [access rules](access.md) in this YAML file, which SIGHUP reads again.",
        details: "",
        docker: "This is a path inside the container: /app/access.yml.",
        default: Unset("none, everybody may announce every torrent"),
        example: "clients:\n  deny: [-XL00]\n",
        expected: "a YAML file with access rules",
        parse: value,
    };
}
