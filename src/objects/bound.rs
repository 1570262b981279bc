//! Whose object it is: the context it must have, and the id it must bear.

use super::ObjectKey;
use crate::{
    config::{Binding, Class, Metadata},
    fault::Tamper,
    message::{Damage, EncryptionContext, Header, SealError},
};

/// A `context` entry: the class's name.
const CLASS: &str = "sealward-class";
/// A `context` entry: the logical place, so that a copy in another bucket still opens.
const VAULT: &str = "sealward-vault";
/// A `context` entry: whether metadata is sealed too.
const META: &str = "sealward-meta";
/// A `context` entry, exactly when the class's binding is strict: the object's key.
const KEY: &str = "sealward-key";

/// What a message of object `key` of `class` says of itself, under the class's
/// present name.
///
/// # Errors
/// [`SealError::Context`], which no checked class and key come to.
pub fn context_of(class: &Class, key: &ObjectKey) -> Result<EncryptionContext, SealError> {
    context_under(&class.name, class, key)
}

/// Requires `header` to be that of object `key` of `class`: its context equal to
/// the class's own, with nothing else in it, and its id bound to vault, class and
/// key. Needs no data key, and is asked before any is.
///
/// # Errors
/// [`Damage`] that names what differs.
pub fn check_bound(class: &Class, key: &ObjectKey, header: &Header) -> Result<(), Damage> {
    let claimed = header.context().value(CLASS).unwrap_or_default();
    let name = std::iter::once(&class.name)
        .chain(&class.read_names)
        .find(|name| *name == claimed)
        .ok_or_else(|| Damage::new(Tamper::Context, "the encryption context names another class, or none"))?;
    let expected = context_under(name, class, key)
        .map_err(|_| Damage::new(Tamper::Context, "the object's name can't stand in a context"))?;
    if *header.context() != expected {
        let which = [VAULT, META, KEY]
            .into_iter()
            .find(|entry| header.context().value(entry) != expected.value(entry))
            .unwrap_or("an entry that is none of ours");
        return Err(Damage::new(Tamper::Context, format!("the encryption context is not the class's: {which}")));
    }
    if !header.id().is_bound_to(&class.vault, name, key.as_str()) {
        return Err(Damage::new(
            Tamper::MessageId,
            "the message id is not bound to this vault, class and name: moved, copied or renamed",
        ));
    }
    Ok(())
}

fn context_under(name: &str, class: &Class, key: &ObjectKey) -> Result<EncryptionContext, SealError> {
    let meta = match class.metadata {
        Metadata::Sealed => "sealed",
        Metadata::Plain => "plain",
    };
    let mut pairs = vec![(CLASS, name), (VAULT, class.vault.as_str()), (META, meta)];
    if class.binding == Binding::Strict {
        pairs.push((KEY, key.as_str()));
    }
    EncryptionContext::new(pairs)
}
