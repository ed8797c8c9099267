//! Sites and NAT.

use std::path::PathBuf;

use ::settings::values::value;
use ::settings::{Flag, Setting, Takes, Unset};

use crate::config::sections;
use crate::config::values::external_address;
use crate::topology::ExternalAddress;

settings! {
    EXTERNAL_ADDRESS: Setting<ExternalAddress, Unset> = Setting {
        section: sections::NETWORKS,
        flag: Some(Flag::long("external-address")),
        variable: "EXTERNAL_ADDRESS",
        takes: Takes::Value("ADDRESSES"),
        help: "Give [clients outside](networks.md#clients-outside) this address for peers on private addresses. It is the \
               public address of your NAT: one of IPv4, one of IPv6 or both, comma-separated.",
        details: "",
        docker: "",
        default: Unset("none, clients outside do not get these peers"),
        example: "203.0.113.1,2001:db8::1",
        expected: "a public address, or one of IPv4 and one of IPv6, such as 203.0.113.1,2001:db8::1",
        parse: external_address,
    };

    ZONES: Setting<PathBuf, Unset> = Setting {
        section: sections::NETWORKS,
        flag: Some(Flag::long("zones")),
        variable: "ZONES_FILE",
        takes: Takes::File,
        help: "Divide the network into the [sites](networks.md#sites) in this YAML file.",
        details: "",
        docker: "This is a path inside the container: /app/zones.yml.",
        default: Unset("none"),
        example: "- name: office\n  networks: [192.168.1.0/24]\n",
        expected: "a YAML file with a list of zones",
        parse: value,
    };
}
