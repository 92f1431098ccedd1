//! One repository of a registry: requests that log in when asked to, and are made again when it helps.

use std::fmt;
use std::time::Duration;

use ureq::http::{Method, Request, StatusCode};

use crate::authorization;
use crate::challenge::Challenge;
use crate::credentials::Login;
use crate::digest::Digest;
use crate::failure::Failure;
use crate::manifest::Descriptor;
use crate::reference::Reference;
use crate::retry::Retry;
use crate::transport::{Answer, Transport};

/// What is asked for at a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// To read.
    Pull,
    /// To read and to write.
    Push,
}

impl Access {
    fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "pull,push",
        }
    }
}

/// Something that happens on the way.
#[derive(Debug)]
pub enum Event<'a> {
    /// A blob is there already.
    Present(&'a Descriptor),
    /// A blob is about to be sent.
    Sending(&'a Descriptor),
    /// A blob is about to be read.
    Reading(&'a Descriptor),
    /// A part of a blob has gone to the registry, or has come from it.
    Moved {
        /// The blob.
        blob: &'a Descriptor,
        /// How many bytes of it, in this attempt.
        bytes: u64,
    },
    /// The manifest stands under this tag or digest.
    Named(&'a str),
    /// It failed, and is tried again after a pause.
    Retrying {
        /// What failed.
        failure: &'a Failure,
        /// How long until then.
        pause: Duration,
    },
}

/// One repository of a registry.
pub struct Repository<'a> {
    reference: Reference,
    access: Access,
    login: &'a Login,
    transport: &'a Transport,
    retry: Retry,
    listener: Box<dyn FnMut(&Event<'_>) + 'a>,
    authorization: Option<Authorization>,
}

struct Authorization {
    value: Option<String>,
    /// Where the credentials come from.
    source: Option<String>,
}

impl fmt::Debug for Repository<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repository").field("reference", &self.reference).finish_non_exhaustive()
    }
}

impl<'a> Repository<'a> {
    /// The repository of an image. Nothing is asked yet; `listener` is told what happens.
    pub fn new(
        reference: &Reference,
        access: Access,
        login: &'a Login,
        transport: &'a Transport,
        retry: Retry,
        listener: impl FnMut(&Event<'_>) + 'a,
    ) -> Self {
        let (reference, listener) = (reference.clone(), Box::new(listener));
        Self { reference, access, login, transport, retry, listener, authorization: None }
    }

    /// The image that it was opened for.
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    pub(crate) fn tell(&mut self, event: &Event<'_>) {
        (self.listener)(event);
    }

    /// A blob, which has the digest and the size that its descriptor says.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub fn blob(&mut self, descriptor: &Descriptor, bound: u64) -> Result<Vec<u8>, Failure> {
        let what = format!("blob {}", descriptor.digest);
        if descriptor.size > bound {
            return Err(Failure::TooLarge { what, bound });
        }
        let bytes = self.retrying(|this| {
            this.tell(&Event::Reading(descriptor));
            let url = this.url(&format!("blobs/{}", descriptor.digest));
            let size = descriptor.size;
            let answer = this.transfer(Some(descriptor), &Method::GET, &url, &[], &[], size)?;
            if answer.status == StatusCode::OK {
                Ok(answer.body)
            } else {
                Err(answer.into_failure())
            }
        })?;
        if bytes.len() as u64 != descriptor.size {
            let (expected, found) = (descriptor.size, bytes.len() as u64);
            return Err(Failure::WrongSize { what, expected, found });
        }
        let found = Digest::of(&bytes);
        if found != descriptor.digest {
            let expected = descriptor.digest.clone();
            return Err(Failure::WrongDigest { what, expected, found: found.to_string() });
        }
        Ok(bytes)
    }

    /// Does something again while that may help.
    pub(crate) fn retrying<T>(
        &mut self,
        mut attempt: impl FnMut(&mut Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut made = 0_u32;
        loop {
            made = made.saturating_add(1);
            let failure = match attempt(self) {
                Err(failure) if failure.may_pass() => failure,
                result => return result,
            };
            let Some(pause) = self.retry.pause(made, failure.retry_after()) else {
                return Err(failure);
            };
            self.tell(&Event::Retrying { failure: &failure, pause });
            std::thread::sleep(pause);
        }
    }

    /// The address of something in the repository.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.transport.base(&self.reference))
    }

    /// The address that a registry names, whole or without its host.
    pub(crate) fn resolve(&self, location: &str) -> Result<String, Failure> {
        if location.starts_with("http://") || location.starts_with("https://") {
            Ok(location.to_owned())
        } else if location.starts_with('/') && !location.starts_with("//") {
            Ok(format!("{}{location}", self.transport.origin(&self.reference)))
        } else {
            Err(Failure::NoLocation { location: location.to_owned() })
        }
    }

    /// Makes one request, after a login if the registry wants one. Statuses that say that the registry is
    /// in trouble, and that it lets nobody in, are failures; the others are the caller's to judge.
    pub(crate) fn request(
        &mut self,
        method: &Method,
        url: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        most: u64,
    ) -> Result<Answer, Failure> {
        self.transfer(None, method, url, headers, body, most)
    }

    /// As [`Self::request`], and tells how much of a blob it has moved.
    pub(crate) fn transfer(
        &mut self,
        blob: Option<&Descriptor>,
        method: &Method,
        url: &str,
        headers: &[(&str, &str)],
        body: &[u8],
        most: u64,
    ) -> Result<Answer, Failure> {
        let mut was_asked = false;
        loop {
            let request = self.build(method, url, headers, body)?;
            let listener = &mut self.listener;
            let answer = self.transport.call(request, most, &mut |bytes| {
                if let Some(blob) = blob {
                    listener(&Event::Moved { blob, bytes });
                }
            })?;
            match answer.status {
                StatusCode::UNAUTHORIZED if !was_asked => {
                    was_asked = true;
                    self.log_in(&answer)?;
                }
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    return Err(self.refused(answer.said()));
                }
                StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                    return Err(answer.into_failure());
                }
                status if status.is_server_error() => return Err(answer.into_failure()),
                _ => return Ok(answer),
            }
        }
    }

    fn build<'b>(
        &self,
        method: &Method,
        url: &str,
        headers: &[(&str, &str)],
        body: &'b [u8],
    ) -> Result<Request<&'b [u8]>, Failure> {
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        // Uploads may go elsewhere; what opens the registry does not.
        let origin = format!("{}/", self.transport.origin(&self.reference));
        let authorization = self.authorization.as_ref().and_then(|given| given.value.as_ref());
        if let (Some(value), true) = (authorization, url.starts_with(&origin)) {
            request = request.header("authorization", value);
        }
        request.body(body).map_err(|_| Failure::NoLocation { location: url.to_owned() })
    }

    fn log_in(&mut self, answer: &Answer) -> Result<(), Failure> {
        let lines = answer.headers.get_all("www-authenticate").iter();
        let lines: Vec<&str> = lines.filter_map(|line| line.to_str().ok()).collect();
        let Some(challenge) = Challenge::best(&lines) else {
            let line = answer.header("www-authenticate").unwrap_or_default();
            return Err(Failure::Challenge {
                challenge: line.to_owned(),
                why: "this way to log in is not known",
            });
        };
        let (credential, source) = self.login.find(&self.reference)?.unzip();
        self.authorization = Some(Authorization { value: None, source });
        let scope = format!("repository:{}:{}", self.reference.name(), self.access.as_str());
        let value = authorization::answer(&challenge, credential.as_ref(), &scope, self.transport);
        let value = match value {
            Err(Failure::Status { status: 400 | 401 | 403, said, .. }) => {
                return Err(self.refused(said));
            }
            value => value?,
        };
        if value.is_none() {
            return Err(self.refused(answer.said()));
        }
        if let Some(authorization) = &mut self.authorization {
            authorization.value = value;
        }
        Ok(())
    }

    fn refused(&self, said: String) -> Failure {
        Failure::Refused {
            repository: self.reference.repository(),
            source: self.authorization.as_ref().and_then(|given| given.source.clone()),
            said,
        }
    }
}
