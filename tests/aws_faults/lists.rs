//! A list while S3 misbehaves: right, or an error; a size that can't be learnt is `null`.

use crate::{
    double::{Double, Fault, World},
    site::{put, serve},
    support::{Site, pattern},
};

const ALL: usize = 1 << 20;

#[test]
fn a_list_is_right_or_an_error() {
    let site = Site::new();
    let double = Double::start(World::default());
    let server = serve(&site, &double);
    for (key, bytes) in [("a", 1000), ("b", 2000), ("c", 3000)] {
        assert_eq!(put(&site, &server, key, &pattern(bytes), &[]).status, 201);
    }
    drop(server);
    let list = |plan: &[(&'static str, usize, usize, Fault)]| {
        // Nothing is remembered of any object.
        let server = serve(&site, &double);
        for (op, from, times, fault) in plan {
            double.plan(op, *from, *times, fault.clone());
        }
        let answer = site.curl([format!("{}?list", server.url(""))]);
        double.calm();
        let sizes: Vec<_> = match answer.status {
            200 => {
                answer.json()["objects"].as_array().expect("a list").iter().map(|one| one["size"].as_u64()).collect()
            }
            _ => vec![],
        };
        (answer.status, sizes)
    };
    let whole = (200, vec![Some(1000), Some(2000), Some(3000)]);
    assert_eq!(list(&[]), whole);
    for fault in
        [Fault::Refuse(500, "InternalError"), Fault::Refuse(503, "SlowDown"), Fault::Reset, Fault::Truncate(99)]
    {
        assert_eq!(list(&[("ListObjectsV2", 1, 1, fault)]), whole);
    }
    for fault in [Fault::Refuse(500, "InternalError"), Fault::Reset, Fault::Refuse(403, "AccessDenied")] {
        assert_eq!(list(&[("ListObjectsV2", 1, ALL, fault)]), (503, vec![]));
    }
    let (status, sizes) = list(&[("HeadObject", 1, ALL, Fault::Refuse(403, "AccessDenied"))]);
    assert_eq!((status, sizes), (200, vec![None; 3]));
    let (status, sizes) = list(&[("HeadObject", 1, 1, Fault::Refuse(404, "NoSuchKey"))]);
    assert_eq!((status, sizes.iter().filter(|size| size.is_none()).count()), (200, 1));
}
