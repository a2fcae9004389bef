//! What happens by itself: backups that are due, their health, alerts, reports and schedules.
//!
//! Nothing here touches the terminal, the environment or the home folder, and whatever depends on time is told what
//! time it is. The command line around it is [`crate::cli`].

pub mod alert;
pub mod calendar;
pub mod check;
pub mod config;
pub mod health;
pub mod metrics;
mod outside;
pub mod probe;
pub mod report;
pub mod run;
pub mod schedule;
pub mod secret;
pub mod sources;
