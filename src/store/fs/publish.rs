//! Makes messages visible, and removes them.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Attributes, Condition, Disk, ETag, Failure, Place, Stored, Target,
    disk::{FOLDER, MESSAGE, SIDECAR, Temp, failure, gone, sync_folder},
    names::parse_sidecar,
    raw,
    read::{HEAD, Head, id_of},
    sidecar,
};

/// How often a put may lose its folder to a delete that empties it.
const TRIES: usize = 64;

/// A message that is being written.
pub(super) struct Draft {
    /// Its bytes.
    pub(super) temp: Arc<Temp>,
    disk: Arc<Disk>,
    place: Place,
    id: [u8; 32],
    attributes: Attributes,
    condition: Condition,
    length: Option<u64>,
}

impl Draft {
    /// An empty one for `target`, which goes to `place`.
    pub(super) fn new(disk: &Arc<Disk>, place: Place, target: Target) -> Result<Self, Failure> {
        Ok(Self {
            temp: Arc::new(Temp::create(disk)?),
            disk: Arc::clone(disk),
            place,
            id: raw(&target.id),
            attributes: target.attributes,
            condition: target.condition,
            length: target.length,
        })
    }

    /// Brings the whole message and its sidecar to the disk.
    pub(super) fn ready(self) -> Result<Ready, Failure> {
        let mut head = [0; HEAD];
        if !self.temp.head(&mut head)? || id_of(&head) != Some(self.id) {
            return Err(Failure::Other("the message does not bear the id it was announced with".into()));
        }
        let written = self.temp.length()?;
        if self.length.is_some_and(|length| length != written) {
            return Err(Failure::Other("the message does not have the length it was announced with".into()));
        }
        self.temp.sync()?;
        let sidecar = Temp::create(&self.disk)?;
        sidecar.write(&sidecar::write(&self.id, self.attributes)?, 0)?;
        sidecar.sync()?;
        Ok(Ready {
            message: self.temp,
            sidecar,
            disk: self.disk,
            place: self.place,
            id: self.id,
            condition: self.condition,
        })
    }
}

/// A message that only wants to be made visible.
pub(super) struct Ready {
    message: Arc<Temp>,
    sidecar: Temp,
    disk: Arc<Disk>,
    place: Place,
    id: [u8; 32],
    condition: Condition,
}

impl Ready {
    /// Makes it visible, if its condition holds. Whoever calls holds the name's lock.
    pub(super) fn publish(self) -> Result<Stored, Failure> {
        let current = Current::look(&self.disk, &self.place)?;
        current.judge(&self.condition)?;
        let done = self.rename(&current);
        if matches!(done, Err(ref failure) if !matches!(failure, Failure::OutcomeUnknown(_))) {
            self.disk.prune(&self.place);
        }
        done?;
        Ok(Stored { etag: sidecar::etag(&self.id), replaced: Some(current != Current::Nothing), version: None })
    }

    fn rename(&self, current: &Current) -> Result<(), Failure> {
        let name = self.place.sidecar(&self.id);
        let folder = (0..TRIES)
            .find_map(|_| match self.place_sidecar(&name) {
                Err(Failure::NotFound) => None,
                done => Some(done),
            })
            .unwrap_or(Err(Failure::Conflict))?;
        if let Err(failure) = self.place_message(&folder) {
            // The same message put again shares its sidecar with the first.
            if *current != Current::Message(self.id) {
                let _ = fs::remove_file(folder.join(&name));
            }
            return Err(failure);
        }
        // From here on the new message stands there, whatever happens.
        sync_folder(&folder).map_err(|error| unknown("put", &error))?;
        current.remove_sidecar(&folder, &self.place, Some(&name));
        Ok(())
    }

    /// Afterwards the folder isn't empty, so that no delete takes it away.
    fn place_sidecar(&self, name: &str) -> Result<PathBuf, Failure> {
        let folder = self.disk.make_folder(&self.place.folders)?;
        let path = folder.join(name);
        self.sidecar.rename(&path).map_err(|error| failure("publish", SIDECAR, &error))?;
        Ok(folder)
    }

    fn place_message(&self, folder: &Path) -> Result<(), Failure> {
        // A crash must not leave the message there without its sidecar, in
        // whatever order the disk writes.
        sync_folder(folder).map_err(|error| gone(failure("sync", FOLDER, &error)))?;
        let path = folder.join(self.place.message());
        self.message.rename(&path).map_err(|error| gone(failure("publish", MESSAGE, &error)))
    }
}

/// Removes what stands at `place`. Whoever calls holds the name's lock.
pub(super) fn delete(disk: &Disk, place: &Place, condition: &Condition) -> Result<(), Failure> {
    let current = Current::look(disk, place)?;
    if current == Current::Nothing {
        return Err(Failure::NotFound);
    }
    current.judge(condition)?;
    let folder = place.folder(&disk.root);
    let path = folder.join(place.message());
    fs::remove_file(&path).map_err(|error| failure("remove", MESSAGE, &error))?;
    sync_folder(&folder).map_err(|error| unknown("delete", &error))?;
    current.remove_sidecar(&folder, place, None);
    disk.prune(place);
    Ok(())
}

/// What stands at a place now.
#[derive(Debug, PartialEq, Eq)]
enum Current {
    Nothing,
    Message([u8; 32]),
    /// Something without an id that could be read.
    Damaged,
}

impl Current {
    fn look(disk: &Disk, place: &Place) -> Result<Self, Failure> {
        let folder = match disk.folder(&place.folders) {
            Ok(folder) => folder,
            Err(Failure::NotFound) => return Ok(Self::Nothing),
            Err(failure) => return Err(failure),
        };
        match Head::open(&folder.join(place.message())) {
            Ok(head) => Ok(head.id.map_or(Self::Damaged, Self::Message)),
            Err(Failure::NotFound) => Ok(Self::Nothing),
            Err(Failure::Damaged(..)) => Ok(Self::Damaged),
            Err(failure) => Err(failure),
        }
    }

    fn judge(&self, condition: &Condition) -> Result<(), Failure> {
        let holds = match condition {
            Condition::None => true,
            Condition::Absent => *self == Self::Nothing,
            Condition::Matches(etag) => self.etag().as_ref() == Some(etag),
        };
        if holds { Ok(()) } else { Err(Failure::Precondition) }
    }

    fn etag(&self) -> Option<ETag> {
        match self {
            Self::Message(id) => Some(sidecar::etag(id)),
            Self::Nothing | Self::Damaged => None,
        }
    }

    /// Removes the sidecar of a message that has gone, unless it is `keep`. One
    /// that stays is found by the sweep.
    fn remove_sidecar(&self, folder: &Path, place: &Place, keep: Option<&str>) {
        let remove = |name: &str| {
            if keep != Some(name) {
                let _ = fs::remove_file(folder.join(name));
            }
        };
        match self {
            Self::Nothing => {}
            Self::Message(id) => remove(&place.sidecar(id)),
            Self::Damaged => {
                for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                    let name = entry.file_name();
                    let Some(name) = name.to_str() else { continue };
                    if parse_sidecar(name).is_some_and(|(stem, _)| stem == place.stem) {
                        remove(name);
                    }
                }
            }
        }
    }
}

fn unknown(what: &str, error: &io::Error) -> Failure {
    Failure::OutcomeUnknown(format!("a {what} was done but {FOLDER} could not be synced: {error}"))
}
