//! Names as the table of inodes keeps them: most are short and then take no allocation of their own.

use super::VfsError;
use crate::path::Name;

/// Bytes of a name that fit in place: with its length and the tag, three words.
const INLINE_BYTES: usize = 22;

/// A [`Name`] in three words; only a long one has an allocation.
#[derive(Debug, Clone)]
pub(super) enum ShortName {
    /// The first so many of these bytes.
    Inline(u8, [u8; INLINE_BYTES]),
    /// A name that is longer.
    Boxed(Box<Name>),
}

impl ShortName {
    pub(super) fn new(name: &Name) -> Self {
        let bytes = name.as_bytes();
        match u8::try_from(bytes.len()) {
            Ok(length) if bytes.len() <= INLINE_BYTES => {
                let mut inline = [0; INLINE_BYTES];
                inline.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
                Self::Inline(length, inline)
            }
            _ => Self::Boxed(Box::new(name.clone())),
        }
    }

    /// Returns the name. That it was made from one, no type says: what is none is not found.
    pub(super) fn name(&self) -> Result<Name, VfsError> {
        match self {
            Self::Inline(length, bytes) => Name::new(bytes.get(..usize::from(*length)).unwrap_or_default())
                .map_err(|error| VfsError::NotFound(error.to_string())),
            Self::Boxed(name) => Ok(Name::clone(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_all_lengths_come_back() {
        for length in [1, 21, 22, 23, 255, 256, 1024] {
            let name = Name::new(&vec![b'x'; length]).unwrap();
            assert_eq!(ShortName::new(&name).name().unwrap(), name);
        }
        assert_eq!(size_of::<ShortName>(), 24);
    }
}
