//! The notation of the schema files: what it means, and that mistakes are named with their line.

#![allow(
    dead_code,
    reason = "the generator's modules are the build script's; this test uses a part of them"
)]

#[path = "../generator/model.rs"]
mod model;
#[path = "../generator/parse.rs"]
mod parse;

use model::{Kind, Scalar, Versions};
use parse::parse;

const GOOD: &str = "\
# What it is for.
api 7 Example
request 1-5 flexible 3+
    name   string 2-4 null 3+ default null ignorable   # a remark
    items  [Item] 2+
        id    i32
        back  Link 4+ tag 1
            to  uuid
        next  Link 5
response 1-5
    ok  bool
";

#[test]
fn a_schema_reads_as_it_looks() {
    let call = parse(GOOD).expect("good");
    assert_eq!(
        (call.key, call.name.as_str(), call.module().as_str()),
        (Some(7), "Example", "example")
    );
    assert_eq!(call.doc, ["What it is for."]);
    let [request, response] = &call.messages;
    let names: Vec<_> = request.structs.iter().map(|one| one.name.as_str()).collect();
    assert_eq!(names, ["ExampleRequest", "Item", "Link"]);
    let name = &request.structs[0].fields[0];
    assert_eq!(name.kind, Kind::Scalar(Scalar::String));
    assert_eq!(name.versions, Versions { from: 2, to: 4 });
    assert_eq!(name.nullable, Some(Versions { from: 3, to: 4 }));
    assert!(name.ignorable && name.default.as_deref() == Some("null"));
    let back = &request.structs[1].fields[1];
    assert_eq!((back.tag, back.versions), (Some(1), Versions { from: 4, to: 5 }));
    assert_eq!(response.structs[0].name, "ExampleResponse");
    assert_eq!(response.flexible_from, None);
}

#[test]
fn an_element_counts_with_the_fewest_bytes_it_can_take() {
    let call = parse(GOOD).expect("good");
    let request = &call.messages[0];
    let item = Kind::Struct("Item".to_owned());
    let bytes_min = |from, to| request.bytes_min(&item, Versions { from, to });
    // An id; from version 3 on also the count of tagged fields; in version 5 a Link with an identity and its own count.
    assert_eq!([bytes_min(2, 2), bytes_min(3, 4), bytes_min(5, 5), bytes_min(2, 5)], [4, 5, 22, 4]);
}

#[test]
fn mistakes_are_named_with_their_line() {
    let fails = |from: &str, to: &str| parse(&GOOD.replace(from, to)).expect_err("a mistake");
    assert_eq!(fails("api 7", "api x"), "2: \"x\" is no api key");
    assert_eq!(
        fails("request 1-5", "request 5-1"),
        "3: expected `request <versions> [flexible <n>+]`"
    );
    assert_eq!(fails("2-4", "0-4"), "4: bad versions");
    assert_eq!(fails("null 3+", "null 1+"), "4: bad versions of `null`");
    assert_eq!(fails("ignorable", "ignored"), "4: unknown word ignored");
    assert_eq!(fails("        id ", "      id "), "7: uneven indentation");
    assert_eq!(fails("i32", "int32"), "6: unknown type int32");
    assert_eq!(fails("to  uuid", "to  uuid null tag"), "8: unknown word tag");
    assert_eq!(
        fails("    ok  bool\n", "    ok  Item\n        id i32\n"),
        "0: two structures are named Item"
    );
    assert_eq!(fails("response 1-5\n    ok  bool\n", ""), "0: the file ends too early");
}
