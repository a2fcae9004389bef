//! How what the walk meets stands to what was given.

use super::selection::{Branch, Extent};
use crate::path::Name;

/// How something stands to what was given.
#[derive(Clone, Copy)]
pub(super) enum Part<'a> {
    /// It was given: nothing leaves it out.
    Given(&'a Branch),
    /// It lies below something given; what was given below it in turn is taken in any case.
    Below(Option<&'a Branch>),
    /// It leads to something given, and nothing else of it is taken.
    Towards(&'a Branch),
}

impl<'a> Part<'a> {
    /// Returns how something stands that is a branch of a selection by itself.
    pub(super) fn of(branch: &'a Branch) -> Self {
        match branch.extent() {
            Extent::Whole => Self::Given(branch),
            Extent::Towards => Self::Towards(branch),
        }
    }

    /// Returns how `name` stands in a directory that stands like this.
    pub(super) fn of_name(self, name: &Name) -> Self {
        let below = self.branch().and_then(|branch| branch.children().get(name));
        match (self, below) {
            (_, Some(branch)) if branch.extent() == Extent::Whole => Self::Given(branch),
            (Self::Towards(_), Some(branch)) => Self::Towards(branch),
            (_, below) => Self::Below(below),
        }
    }

    /// Returns what was given below it.
    pub(super) fn branch(self) -> Option<&'a Branch> {
        match self {
            Self::Given(branch) | Self::Towards(branch) => Some(branch),
            Self::Below(branch) => branch,
        }
    }

    /// Tells whether rules may leave it out.
    pub(super) fn is_below(self) -> bool {
        matches!(self, Self::Below(_))
    }

    /// Tells whether only what was given below it is taken.
    pub(super) fn is_towards(self) -> bool {
        matches!(self, Self::Towards(_))
    }
}
