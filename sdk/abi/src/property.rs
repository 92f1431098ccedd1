//! Property paths: segments joined by NUL.

use core::fmt;

/// Joins the segments of a property path, as `proxy_get_property` takes it.
///
/// # Errors
///
/// [`InvalidSegment`] when a segment contains NUL: it would read as two.
///
/// # Examples
///
/// ```
/// let path = tollgate_abi::property::join(&["request", "path"])?;
/// assert_eq!(path, b"request\0path");
/// # Ok::<(), tollgate_abi::property::InvalidSegment>(())
/// ```
pub fn join<S: AsRef<[u8]>>(segments: &[S]) -> Result<Vec<u8>, InvalidSegment> {
    let mut path = Vec::new();
    for (index, segment) in segments.iter().enumerate() {
        if segment.as_ref().contains(&0) {
            return Err(InvalidSegment { index });
        }
        if index > 0 {
            path.push(0);
        }
        path.extend_from_slice(segment.as_ref());
    }
    Ok(path)
}

/// Splits a property path into its segments. One trailing NUL, which some SDKs add, is dropped.
pub fn split(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.strip_suffix(&[0]).unwrap_or(path).split(|&byte| byte == 0)
}

/// A segment of a property path that contains NUL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidSegment {
    /// The segment, counted from 0.
    pub index: usize,
}

impl fmt::Display for InvalidSegment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "segment {} of the property path contains NUL", self.index)
    }
}

impl core::error::Error for InvalidSegment {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_splits_into_the_segments_it_was_joined_from() {
        for segments in [&["a"][..], &["request", "headers", "x-user"], &["", "a"]] {
            let path = join(segments).unwrap();
            let split: Vec<&[u8]> = split(&path).collect();
            assert_eq!(split, segments.iter().map(|s| s.as_bytes()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_segment_with_nul_is_refused() {
        assert_eq!(join(&["a", "b\0c"]), Err(InvalidSegment { index: 1 }));
    }

    #[test]
    fn one_trailing_nul_is_dropped() {
        assert_eq!(split(b"request\0path\0").collect::<Vec<_>>(), [&b"request"[..], b"path"]);
    }
}
