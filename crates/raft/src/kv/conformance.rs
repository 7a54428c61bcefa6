//! What every [`MetaKv`] promises, run over each of them.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn put(key: &str, value: &str) -> KvChange {
    KvChange::Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
    }
}

fn delete(key: &str) -> KvChange {
    KvChange::Delete { key: Bytes::copy_from_slice(key.as_bytes()) }
}

fn mark(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

fn entries(pairs: &[(&str, &str)]) -> Vec<(Bytes, Bytes)> {
    let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
    pairs.iter().map(|(key, value)| (bytes(key), bytes(value))).collect()
}

/// Runs one test over an empty store of every kind.
fn over_every_store(test: impl Fn(&dyn MetaKv)) {
    for kind in [KvKind::Memory, KvKind::Sled] {
        let dir = tempfile::tempdir().unwrap();
        let kv = open(kind, &dir.path().join("state")).unwrap();
        test(kv.as_ref());
    }
}

#[test]
fn an_empty_store_has_no_mark_and_no_entries() {
    over_every_store(|kv| {
        assert_eq!(kv.mark().unwrap(), None);
        assert_eq!(kv.scan().unwrap(), Vec::new());
        assert_eq!(kv.get(b"a").unwrap(), None);
    });
}

#[test]
fn a_batch_applies_in_order_and_moves_the_mark() {
    over_every_store(|kv| {
        kv.write(&[put("b", "1"), put("a", "2"), put("b", "3"), delete("c")], &mark("one"))
            .unwrap();
        kv.write(&[delete("a"), put("c", "")], &mark("two")).unwrap();

        assert_eq!(kv.scan().unwrap(), entries(&[("b", "3"), ("c", "")]));
        assert_eq!(kv.get(b"b").unwrap(), Some(mark("3")));
        assert_eq!(kv.get(b"a").unwrap(), None);
        assert_eq!(kv.mark().unwrap(), Some(mark("two")));
    });
}

#[test]
fn a_batch_without_changes_moves_the_mark() {
    over_every_store(|kv| {
        kv.write(&[], &mark("one")).unwrap();

        assert_eq!(kv.mark().unwrap(), Some(mark("one")));
    });
}

#[test]
fn the_empty_key_is_a_key_and_not_the_mark() {
    over_every_store(|kv| {
        kv.write(&[put("", "value")], &mark("one")).unwrap();

        assert_eq!(kv.get(b"").unwrap(), Some(mark("value")));
        assert_eq!(kv.mark().unwrap(), Some(mark("one")));
    });
}

#[test]
fn entries_are_scanned_in_byte_order() {
    over_every_store(|kv| {
        kv.write(&[put("b", ""), put("ab", ""), put("a", ""), put("\u{7f}", "")], &mark("one"))
            .unwrap();

        let keys: Vec<Bytes> = kv.scan().unwrap().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, [mark("a"), mark("ab"), mark("b"), mark("\u{7f}")]);
    });
}

#[test]
fn a_replacement_leaves_nothing_of_what_was_before() {
    over_every_store(|kv| {
        kv.write(&[put("a", "1"), put("b", "2")], &mark("one")).unwrap();
        let many: Vec<(Bytes, Bytes)> = (0..3000_u32)
            .map(|n| (Bytes::from(n.to_be_bytes().to_vec()), Bytes::from_static(b"value")))
            .collect();

        kv.replace_all(&many, &mark("two")).unwrap();

        assert_eq!(kv.scan().unwrap(), many);
        assert_eq!(kv.mark().unwrap(), Some(mark("two")));

        kv.replace_all(&entries(&[("z", "26")]), &mark("three")).unwrap();

        assert_eq!(kv.scan().unwrap(), entries(&[("z", "26")]));
        assert_eq!(kv.mark().unwrap(), Some(mark("three")));
    });
}

#[test]
fn the_durable_store_finds_everything_after_a_flush_and_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let kv = SledKv::open(dir.path()).unwrap();
    kv.write(&[put("a", "1")], &mark("one")).unwrap();
    kv.flush().unwrap();
    drop(kv);

    let kv = SledKv::open(dir.path()).unwrap();

    assert_eq!(kv.scan().unwrap(), entries(&[("a", "1")]));
    assert_eq!(kv.mark().unwrap(), Some(mark("one")));
}

#[test]
fn a_store_whose_entries_do_not_add_up_is_damaged() {
    let lost = MemoryKv::default();
    let (mut guarded, _) = GuardedKv::load(Box::new(MemoryKv::default())).unwrap();
    guarded.write(&[put("a", "1"), put("b", "2")], Default::default()).unwrap();
    let mark = guarded.kv_for_test().mark().unwrap().unwrap();
    // The mark of two entries over one of them: as if a page had been lost.
    lost.write(&[put("a", "1")], &mark).unwrap();

    assert!(matches!(GuardedKv::load(Box::new(lost)), Err(KvError::Damaged(_))));
}

#[test]
fn entries_without_a_mark_are_damage_because_a_replacement_was_cut_short() {
    let dir = tempfile::tempdir().unwrap();
    let kv = SledKv::open(dir.path()).unwrap();
    kv.write(&[put("a", "1")], &mark("one")).unwrap();
    kv.forget_mark_for_test();

    assert!(matches!(GuardedKv::load(Box::new(kv)), Err(KvError::Damaged(_))));
}

fn changes() -> impl Strategy<Value = Vec<Vec<KvChange>>> {
    let key = "[a-d]{0,2}";
    let change = prop_oneof![
        (key, "[a-z]{0,3}").prop_map(|(key, value)| put(&key, &value)),
        key.prop_map(|key| delete(&key)),
    ];
    proptest::collection::vec(proptest::collection::vec(change, 0..8), 0..8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_digest_follows_every_change(batches in changes()) {
        let dir = tempfile::tempdir().unwrap();
        let (mut durable, _) = GuardedKv::load(Box::new(SledKv::open(dir.path()).unwrap())).unwrap();
        let (mut model, _) = GuardedKv::load(Box::new(MemoryKv::default())).unwrap();
        for batch in &batches {
            durable.write(batch, Default::default()).unwrap();
            model.write(batch, Default::default()).unwrap();
        }
        // Both check their digest against a full scan.
        prop_assert_eq!(durable.entries().unwrap(), model.entries().unwrap());
    }
}
