//! The order of the steps of a run.

use std::path::Path;

use super::*;

#[test]
fn copies_of_copies_come_last() {
    let text = "[store.c]\nurl = \"/c\"\ncopy-from = \"b\"\n[store.a]\nurl = \"/a\"\n\
                [store.b]\nurl = \"/b\"\ncopy-from = \"a\"\n";
    let config = Config::parse(text, Path::new("/x")).unwrap();
    let names: Vec<_> = in_order_of_copies(&config).iter().map(|store| store.name.as_str()).collect();
    assert_eq!(names, ["b", "c"]);
}
