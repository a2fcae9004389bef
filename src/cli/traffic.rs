//! What a store over a network was asked for, as people and programs are told: requests, bytes, and what AWS takes for it.

use serde_json::{Value, json};

use super::context::Context;
use crate::human;
use crate::store::traffic::Traffic;

/// AWS's list prices of S3 Standard in us-east-1, in millionths of a dollar.
const MICROS_PER_THOUSAND_PUTS: u64 = 5_000;
const MICROS_PER_THOUSAND_GETS: u64 = 400;
const MICROS_PER_GB_SENT_OUT: u64 = 90_000;
const MICROS_PER_GB_AND_MONTH: u64 = 23_000;
const GB: u128 = 1_000_000_000;

impl Context {
    /// Tells what the store was asked for, as a line of a summary; nothing for a store that is a directory.
    pub(super) fn tell_requests(&self) {
        if let Some(traffic) = self.traffic() {
            self.tell(&format!("  {}", describe(&traffic)));
        }
    }

    /// Returns the same as a document; null for a store that is a directory.
    pub(super) fn requests(&self) -> Value {
        self.traffic().as_ref().map_or(Value::Null, document)
    }

    /// Returns what AWS takes for so many bytes a month, if that is where they are.
    pub(super) fn monthly_price(&self, bytes: u64) -> Option<String> {
        let price = || format!("{} in S3 Standard", dollars(for_bytes(bytes, MICROS_PER_GB_AND_MONTH)));
        self.traffic().is_some_and(|traffic| traffic.is_aws).then(price)
    }
}

fn describe(traffic: &Traffic) -> String {
    let kinds = [
        (traffic.puts, "put"),
        (traffic.gets, "get"),
        (traffic.heads, "head"),
        (traffic.lists, "list"),
        (traffic.deletes, "delete"),
    ];
    let kinds: Vec<String> = kinds
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, kind)| human::counted(count, kind))
        .collect();
    let again = match traffic.retries {
        0 => String::new(),
        retries => format!(", {} sent again", human::count(retries)),
    };
    let price =
        if traffic.is_aws { format!(", about {}", dollars(price_micros(traffic))) } else { String::new() };
    format!(
        "{}: {}{again}; {} sent, {} received{price}",
        human::counted(traffic.requests(), "request"),
        kinds.join(", "),
        human::bytes(traffic.sent_bytes),
        human::bytes(traffic.received_bytes)
    )
}

fn document(traffic: &Traffic) -> Value {
    let price = traffic.is_aws.then(|| price_micros(traffic) as f64 / 1e6);
    json!({
        "puts": traffic.puts,
        "gets": traffic.gets,
        "heads": traffic.heads,
        "lists": traffic.lists,
        "deletes": traffic.deletes,
        "retries": traffic.retries,
        "sent_bytes": traffic.sent_bytes,
        "received_bytes": traffic.received_bytes,
        "price_dollars": price,
    })
}

/// Returns AWS's list price: deleting is free, and so is what is sent to it.
fn price_micros(traffic: &Traffic) -> u64 {
    let puts = traffic.puts.saturating_add(traffic.lists).saturating_mul(MICROS_PER_THOUSAND_PUTS) / 1000;
    let gets = traffic.gets.saturating_add(traffic.heads).saturating_mul(MICROS_PER_THOUSAND_GETS) / 1000;
    puts.saturating_add(gets).saturating_add(for_bytes(traffic.received_bytes, MICROS_PER_GB_SENT_OUT))
}

fn for_bytes(bytes: u64, micros_per_gb: u64) -> u64 {
    u64::try_from(u128::from(bytes) * u128::from(micros_per_gb) / GB).unwrap_or(u64::MAX)
}

/// Returns an amount with as many digits as it takes to see something.
fn dollars(micros: u64) -> String {
    match micros {
        0..100 => "less than $0.0001".to_owned(),
        100..1_000_000 => format!("$0.{:04}", micros / 100),
        _ => format!("${}.{:02}", micros / 1_000_000, micros % 1_000_000 / 10_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_with_their_price() {
        let traffic = Traffic {
            puts: 100,
            gets: 1,
            lists: 4,
            retries: 2,
            sent_bytes: 5_000_000,
            received_bytes: 1_000_000_000,
            ..Traffic::default()
        };
        let text = "105 requests: 100 puts, 1 get, 4 lists, 2 sent again; 5.00 MB sent, 1.00 GB received";
        assert_eq!(describe(&traffic), text);
        let at_aws = Traffic { is_aws: true, ..traffic };
        assert_eq!(describe(&at_aws), format!("{text}, about $0.0905"));
        assert_eq!(document(&traffic)["price_dollars"], Value::Null);
        assert_eq!(document(&at_aws)["price_dollars"], 0.090_520);
    }

    #[test]
    fn amounts_have_the_digits_they_need() {
        for (micros, text) in [
            (0, "less than $0.0001"),
            (99, "less than $0.0001"),
            (123, "$0.0001"),
            (520_400, "$0.5204"),
            (1_000_000, "$1.00"),
            (12_345_678, "$12.34"),
        ] {
            assert_eq!(dollars(micros), text);
        }
    }
}
