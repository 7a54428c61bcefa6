//! Each rule finds what it is for, and leaves alone what only looks like it.

use super::*;

fn complaints(name: &str, text: &str) -> Vec<String> {
    check(Path::new(name), text)
}

fn rust(body: &str) -> Vec<String> {
    complaints("crates/types/src/a.rs", &format!("//! A purpose.\n{body}"))
}

#[test]
fn a_file_that_keeps_the_rules_draws_no_complaint() {
    assert_eq!(rust("fn main() { println!(\"done\") }\n"), Vec::<String>::new());
}

#[test]
fn a_rust_file_without_a_purpose_is_found() {
    for text in [
        "",
        "fn main() {}\n",
        "//!\n",
        "#![no_std]\nuse std::fmt;\n",
        "\n//! Late.\n",
        "/// Outer.\n",
    ] {
        assert_eq!(complaints("crates/types/src/a.rs", text).len(), 1, "{text:?}");
    }
    assert!(complaints("crates/types/src/a.rs", "#![no_std]\n//! Said.\n").is_empty());
    assert!(complaints("scripts/a.py", "print(1)\n").is_empty(), "only Rust files under crates/");
}

#[test]
fn a_module_in_mod_rs_is_found() {
    assert_eq!(complaints("crates/types/src/a/mod.rs", "//! A purpose.\n").len(), 1);
}

#[test]
fn leftovers_are_found_in_code_and_not_in_comments_or_longer_names() {
    for name in LEFTOVERS {
        let found = rust(&format!("fn a() {{ {name}!() }}\n"));
        assert_eq!(found, [format!("crates/types/src/a.rs:2: {name}! is left over")]);
        assert!(rust(&format!("// {name}!() is not allowed\n")).is_empty());
        assert!(rust(&format!("my_{name}!();\n")).is_empty());
        assert!(rust(&format!("let {name} = 1;\n")).is_empty());
    }
}

#[test]
fn a_path_of_one_machine_is_found_in_any_text() {
    for folder in MACHINE_FOLDERS {
        let path = format!("/{folder}/someone");
        for line in [format!("cd {path}"), format!("FILE={path}"), format!("see `{path}`")] {
            assert_eq!(complaints("docs/a.md", &line).len(), 1, "{line}");
        }
        for line in
            [format!("https://example.org{path}"), format!("target{path}"), format!("${{A}}{path}")]
        {
            assert!(complaints("docs/a.md", &line).is_empty(), "{line}");
        }
    }
}

#[test]
fn a_registry_host_is_found_in_any_text() {
    for (front, back) in REGISTRY_HOSTS {
        assert_eq!(complaints("Makefile", &format!("curl https://{front}{back}/x")).len(), 1);
    }
}

#[test]
fn a_package_locked_to_a_mirror_is_found() {
    let public = format!("source = \"{PUBLIC_INDEX}\"\n");
    assert!(complaints("Cargo.lock", &public).is_empty());
    assert_eq!(
        complaints("Cargo.lock", "source = \"registry+https://mirror.example/\"\n").len(),
        1
    );
}
