//! Which image a policy means, once somebody has looked.

use crate::image::{Digest, Image};
use crate::{Delivery, InvalidPolicy, Policy, PullPolicy};

impl Policy {
    /// Says which image `filter` was found to be, by the digest of its manifest in hexadecimal digits: if it
    /// comes to the proxy as an image of the same repository, that is pinned. A tag that is followed
    /// (`pull_policy: always`) stays.
    ///
    /// # Errors
    ///
    /// [`InvalidPolicy`] when `module.image` is another image than `filter`.
    pub fn pin(&mut self, digest: &str) -> Result<(), InvalidPolicy> {
        let (Ok(filter), Some(digest)) = (Image::parse(&self.filter), Digest::parse(digest)) else {
            return Err(self.refused("filter", "no image, or pinned by no digest"));
        };
        let Some(Delivery::Image(pull)) = &mut self.module else { return Ok(()) };
        let reference = &pull.reference;
        if reference.repository() != filter.repository() {
            return Ok(());
        }
        let pinned = reference.pinned(digest);
        let has_other_tag = reference.tag().zip(filter.tag()).is_some_and(|(one, two)| one != two);
        let is_other = match reference.digest() {
            Some(said) => ![filter.digest(), pinned.digest()].contains(&Some(said)),
            None => has_other_tag,
        };
        if is_other {
            let what = format!("{reference} is another image than `filter`, which is judged");
            return Err(self.refused("module.image.reference", what));
        }
        let is_followed = pull.pull_policy == Some(PullPolicy::Always);
        if !(is_followed && reference.digest().is_none()) {
            pull.reference = pinned;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_pinned_by_what_it_was_found_to_be() {
        let [judged, index, other] = ["a", "b", "c"].map(|digit| digit.repeat(64));
        let check = |rest: &str, expected: Result<&str, &str>| {
            let text = format!("filter: oci://a.io/b:1@sha256:{index}\n{rest}");
            let text = text.replace("INDEX", &index).replace("JUDGED", &judged);
            let mut policy = Policy::parse(&text.replace("OTHER", &other)).unwrap();
            match (policy.pin(&judged), expected) {
                (Ok(()), Ok(expected)) => {
                    let Some(Delivery::Image(pull)) = policy.module else { panic!("{text}") };
                    let expected = expected.replace("JUDGED", &judged);
                    assert_eq!(pull.reference.to_string(), expected, "{text}");
                }
                (Err(error), Err(word)) => assert!(error.to_string().contains(word), "{error}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        };
        let image = |reference: &str, more: &str| {
            format!("module: {{ image: {{ reference: '{reference}'{more} }} }}")
        };
        let pinned = Ok("oci://a.io/b@sha256:JUDGED");
        check("", pinned);
        check(&image("oci://a.io/b:1", ""), pinned);
        check(&image("oci://a.io/b@sha256:INDEX", ""), pinned);
        check(&image("oci://a.io/b@sha256:JUDGED", ", pull_policy: always"), pinned);
        check(&image("oci://a.io/b:1", ", pull_policy: always"), Ok("oci://a.io/b:1"));
        check(&image("oci://mirror.io/b:1", ""), Ok("oci://mirror.io/b:1"));
        let refused = Err("line 2 column 31: module.image.reference: oci://a.io/b");
        check(&image("oci://a.io/b:2", ""), refused);
        check(&image("oci://a.io/b@sha256:OTHER", ""), refused);
        let mut inline = Policy::parse("{ filter: 'oci://a.io/b', module: inline }").unwrap();
        inline.pin(&judged).unwrap();
        assert_eq!(inline.module, Some(Delivery::Inline));
        let mut built_in = Policy::parse("filter: a").unwrap();
        assert!(built_in.pin(&judged).unwrap_err().to_string().contains("no image"));
    }
}
