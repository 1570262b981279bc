//! `[[quota]]`: what one client may have.

use std::num::NonZeroU32;

use super::{
    Quota, QuotaBy,
    document::{Found, Section},
    named::{self, Named},
    report::Fault,
};

const BY: [(&str, QuotaBy); 3] =
    [("address", QuotaBy::Address), ("caller", QuotaBy::Caller), ("certificate", QuotaBy::Certificate)];
const TIB: u64 = 1 << 40;

/// Reads the quotas and compares their names.
pub(super) fn read(sections: Vec<Section<'_>>) -> Named<Quota> {
    named::read(sections, "quota", quota)
}

fn quota(section: &Section<'_>) -> (Option<Found<String>>, Option<Quota>) {
    section.require("name", "\"per-address\"");
    let name = section.string("name").filter(|name| named::fits(section, name, "quota"));
    let by = section.one_of("by", &BY).unwrap_or(QuotaBy::Address);
    let count = |key| section.integer(key, 1..=1_000_000).and_then(|count| NonZeroU32::new(u32::try_from(count).ok()?));
    let (requests, burst, concurrent) = (count("requests"), count("burst"), count("concurrent"));
    let size = |key| section.size(key, 1..=TIB).map(|size| size.value);
    let (bytes, burst_bytes) = (size("bytes"), size("burst_bytes"));
    for (key, of) in [("burst", "requests"), ("burst_bytes", "bytes")] {
        if section.has(key) && !section.has(of) {
            let fault =
                Fault::new(format!("`{key}` says nothing without `{of}`"), format!("add `{of}`, or leave `{key}` out"));
            section.own_fault(fault, "in this table");
        }
    }
    if !["requests", "concurrent", "bytes"].iter().any(|key| section.has(key)) {
        let help = "add `requests`, `concurrent` or `bytes`";
        section.own_fault(Fault::new("the `[[quota]]` bounds nothing", help), "in this table");
    }
    section.finish();
    let quota =
        |name: &Found<String>| Quota { name: name.value.clone(), by, requests, burst, concurrent, bytes, burst_bytes };
    let quota = name.as_ref().map(quota);
    (name, quota)
}
