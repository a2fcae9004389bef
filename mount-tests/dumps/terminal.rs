//! A dump that went through a terminal, as with `docker exec -t`: line feeds became two bytes each.

use crate::dumps::{feed, latest, output_of};
use crate::harness::{Lab, Need, can, succeed};
use crate::postgres::Postgres;

#[test]
fn what_a_terminal_did_to_a_dump_is_named_and_never_the_latest() {
    if !can(&[Need::Root, Need::Postgres, Need::Tool("script")]) {
        return;
    }
    let postgres = Postgres::start();
    succeed(postgres.client("createdb").arg("shop"));
    postgres
        .query("shop", "CREATE TABLE orders AS SELECT id, md5(id::text) FROM generate_series(1, 500) AS id");
    for options in [&["-Fc", "-Z0"][..], &["-Fc"], &[]] {
        let lab = Lab::new();
        let dump = output_of(postgres.client("pg_dump").args(options).arg("shop"));
        feed(&mut lab.command(["ingest", "--as", "shop"]), &dump).succeeds();
        let good = latest(&lab, "shop");

        let line = format!("{} {} shop", postgres.program("pg_dump").display(), options.join(" "));
        let mut ingest = lab.command(["ingest", "--as", "shop", "--", "script", "-qec", &line, "/dev/null"]);
        postgres.connect(&mut ingest);
        let ran = crate::harness::Ran::of(&mut ingest);
        let said = ran.fails(3);
        assert!(said.contains("terminal") && said.contains("-t"), "{options:?}: {said}");
        assert!(latest(&lab, "shop") == good, "{options:?}: a damaged dump is the latest");

        let snapshots = lab.snapshots();
        let suspicious: Vec<_> = snapshots.iter().filter(|one| one["state"] == "suspicious").collect();
        assert_eq!((snapshots.len(), suspicious.len()), (2, 1), "{snapshots:?}");
        let dump = &suspicious[0]["dump"];
        assert_eq!(dump["check"], "broken", "{dump}");
        assert!(dump["reason"].as_str().unwrap().contains("terminal"), "{dump}");
        let kept = output_of(&mut lab.command(["cat", suspicious[0]["id"].as_str().unwrap(), "shop"]));
        assert!(kept.len() > good.len() && kept.windows(2).any(|pair| pair == b"\r\n"));

        lab.run(["accept", suspicious[0]["id"].as_str().unwrap()]).succeeds();
        assert!(latest(&lab, "shop") == kept, "{options:?}: an accepted dump is not the latest");
        let accepted =
            lab.snapshots().into_iter().filter(|one| one["marks"] == serde_json::json!(["accepted"]));
        assert_eq!(accepted.count(), 1);
    }
}
