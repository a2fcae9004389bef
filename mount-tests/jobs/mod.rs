//! What happens by itself, held against the programs that it is made for.

mod alerts;
mod calendar;
mod check;
mod command;
mod databases;
mod delivery;
mod examples;
mod host;
mod live_cron;
mod nights;
mod prometheus;
mod runs;
mod schedule;
mod secrets;
mod sinks;
mod ssh;
mod systemd;
mod together;
