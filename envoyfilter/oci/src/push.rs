//! Storing an image: first what the manifest needs, then the manifest, then its names.
//!
//! Whatever breaks off in between leaves every tag as it was. Blobs are sent whole, in one request after
//! the one that opens the upload: of the ways of the specification the one that every registry has.

use ureq::http::{Method, StatusCode};

use crate::MAX_MANIFEST_BYTES;
use crate::digest::Digest;
use crate::failure::Failure;
use crate::image::{Blob, Image};
use crate::media;
use crate::repository::{Event, Repository};

/// The most bytes of a body that nobody reads: some registries send one with a success.
const MAX_IGNORED_BYTES: u64 = 64 << 10;

/// What becomes of a tag that is a version and stands for another image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MovedTags {
    /// It stays: the push is refused.
    Refused,
    /// It moves.
    Forced,
}

impl Repository<'_> {
    /// Stores an image, and lets the tag of the repository's reference stand for it, if it has one.
    ///
    /// # Errors
    ///
    /// [`Failure`]; the tag is then as it was.
    pub fn push(&mut self, image: &Image, moved: MovedTags) -> Result<(), Failure> {
        self.refuse_to_move(image.digest(), moved)?;
        for blob in image.blobs() {
            self.store(blob)?;
        }
        self.name(image, image.digest().as_str())?;
        if let Some(tag) = self.reference().tag().map(str::to_owned) {
            self.refuse_to_move(image.digest(), moved)?;
            self.name(image, &tag)?;
        }
        Ok(())
    }

    /// Fails when the tag is a version that stands for another image.
    ///
    /// # Errors
    ///
    /// [`Failure::TagTaken`], and what keeps it from being seen.
    pub fn refuse_to_move(&mut self, digest: &Digest, moved: MovedTags) -> Result<(), Failure> {
        let reference = self.reference().clone();
        let Some(tag) = reference.tag().filter(|_| reference.has_version_tag()) else {
            return Ok(());
        };
        if moved == MovedTags::Forced {
            return Ok(());
        }
        match self.retrying(|this| this.digest_of(tag))? {
            Some(stored) if stored != *digest => Err(Failure::TagTaken { reference, stored }),
            Some(_) | None => Ok(()),
        }
    }

    /// What stands under a tag or a digest.
    fn digest_of(&mut self, selector: &str) -> Result<Option<Digest>, Failure> {
        let url = self.url(&format!("manifests/{selector}"));
        let accept = [("accept", media::ACCEPTED)];
        let answer = self.request(&Method::HEAD, &url, &accept, &[], MAX_IGNORED_BYTES)?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        if let Some(digest) = answer.header("docker-content-digest") {
            return Ok(digest.parse().ok());
        }
        // Not every registry says it.
        let answer = self.request(&Method::GET, &url, &accept, &[], MAX_MANIFEST_BYTES)?;
        match answer.status {
            StatusCode::OK => Ok(Some(Digest::of(&answer.body))),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(answer.into_failure()),
        }
    }

    fn store(&mut self, blob: &Blob) -> Result<(), Failure> {
        let descriptor = &blob.descriptor;
        let is_stored = self.retrying(|this| {
            if this.size_of(&descriptor.digest)? == Some(descriptor.size) {
                return Ok(true);
            }
            this.tell(&Event::Sending(descriptor));
            this.upload(blob)?;
            Ok(false)
        })?;
        if is_stored {
            self.tell(&Event::Present(descriptor));
            return Ok(());
        }
        match self.retrying(|this| this.size_of(&descriptor.digest))? {
            Some(size) if size == descriptor.size => Ok(()),
            Some(found) => Err(Failure::WrongSize {
                what: format!("blob {}", descriptor.digest),
                expected: descriptor.size,
                found,
            }),
            // Not every registry says it: what it gives is what it has.
            None => self.blob(descriptor, descriptor.size).map(drop),
        }
    }

    /// How many bytes of a blob the registry has, if it says so.
    fn size_of(&mut self, digest: &Digest) -> Result<Option<u64>, Failure> {
        let url = self.url(&format!("blobs/{digest}"));
        let answer = self.request(&Method::HEAD, &url, &[], &[], MAX_IGNORED_BYTES)?;
        let size = answer.header("content-length").and_then(|size| size.parse().ok());
        Ok(size.filter(|_| answer.status == StatusCode::OK))
    }

    fn upload(&mut self, blob: &Blob) -> Result<(), Failure> {
        let begin = self.url("blobs/uploads/");
        let answer = self.request(&Method::POST, &begin, &[], &[], MAX_IGNORED_BYTES)?;
        if answer.status != StatusCode::ACCEPTED {
            return Err(answer.into_failure());
        }
        let location = self.resolve(answer.header("location").unwrap_or_default())?;
        let separator = if location.contains('?') { '&' } else { '?' };
        let digest = blob.descriptor.digest.as_str().replace(':', "%3A");
        let url = format!("{location}{separator}digest={digest}");
        let content = [("content-type", "application/octet-stream")];
        let (moved, bytes) = (Some(&blob.descriptor), &blob.bytes);
        let answer =
            self.transfer(moved, &Method::PUT, &url, &content, bytes, MAX_IGNORED_BYTES)?;
        match answer.status {
            StatusCode::CREATED => Ok(()),
            StatusCode::NOT_FOUND => Err(Failure::UploadLost { request: answer.request }),
            _ => Err(answer.into_failure()),
        }
    }

    /// Lets a tag or the digest stand for the manifest, and looks whether it does.
    fn name(&mut self, image: &Image, name: &str) -> Result<(), Failure> {
        let Blob { descriptor, bytes } = image.manifest();
        self.retrying(|this| {
            let url = this.url(&format!("manifests/{name}"));
            let content = [("content-type", descriptor.media_type.as_str())];
            let answer = this.request(&Method::PUT, &url, &content, bytes, MAX_IGNORED_BYTES)?;
            if answer.status == StatusCode::CREATED { Ok(()) } else { Err(answer.into_failure()) }
        })?;
        let found = self.retrying(|this| this.digest_of(name))?;
        if found.as_ref() != Some(&descriptor.digest) {
            return Err(Failure::WrongDigest {
                what: format!("{}, {name}", self.reference().repository()),
                expected: descriptor.digest.clone(),
                found: found.map(String::from).unwrap_or_default(),
            });
        }
        self.tell(&Event::Named(name));
        Ok(())
    }
}
