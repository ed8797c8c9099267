//! Who may announce.

use std::path::PathBuf;

use ::settings::values::value;
use ::settings::{Flag, Setting, Takes, Unset};

use crate::config::sections;
settings! {
    ACCESS: Setting<PathBuf, Unset> = Setting {
        section: sections::ACCESS,
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
