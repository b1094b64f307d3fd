//! How much memory there is.

use rankle::bounds::limit;

use crate::common::put;

#[test]
fn memory_ends_where_any_control_group_ends_it() {
    let folder = tempfile::tempdir().expect("a folder");
    for (file, limit) in [
        ("memory.max", "max"),
        ("a/memory.max", "700"),
        ("a/b/memory.max", "900"),
        ("memory/c/memory.limit_in_bytes", "500"),
        ("memory/memory.limit_in_bytes", "600"),
    ] {
        put(folder.path().join(file), format!("{limit}\n"));
    }
    for (groups, expected) in [
        ("", None),
        ("0::/\n", None),
        ("0::/a/b\n", Some(700)),
        ("5:cpu,cpuacct:/a\n4:memory:/c/gone\n0::/\n", Some(500)),
        ("4:hugetlb,memory:/elsewhere\n", Some(600)),
        ("no such line", None),
    ] {
        assert_eq!(limit(folder.path(), groups), expected, "{groups}");
    }
}
