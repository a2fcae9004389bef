//! Several hosts at once on one bucket: each with a cache and a state of its own, and nothing else in common.

use std::fs;

use s3_server::Fault;

use super::Site;
use crate::harness::{Need, Ran, can, copy_of, noise};

const HOSTS: u64 = 4;
const BACKUPS: u64 = 3;

#[test]
fn hosts_ingest_at_once_and_another_one_mounts() {
    if !can(&[Need::Root, Need::Fuse]) {
        return;
    }
    let site = Site::new();
    // The server has a bad day.
    let faults =
        [Fault::slow_down(), Fault::CloseBefore, Fault::CloseAfter, Fault::CutBody, Fault::conflict()];
    site.server.faults().at_random(3, 12, &faults);
    std::thread::scope(|scope| {
        for host in 0..HOSTS {
            scope.spawn({
                let site = &site.lab;
                move || {
                    let folder = site.path(format!("host-{host}"));
                    let tree = folder.join("tree");
                    fs::create_dir_all(&tree).unwrap();
                    for backup in 0..BACKUPS {
                        // Some of it all hosts have.
                        fs::write(tree.join("own"), noise(host * 100 + backup, 400_000)).unwrap();
                        fs::write(tree.join("shared"), noise(9_000 + backup, 400_000)).unwrap();
                        let name = format!("host{host}");
                        let mut command = site.command(["ingest", "--source", "tree", "--host", &name]);
                        command.arg(&tree).env("CACHE_DIRECTORY", folder.join("cache"));
                        Ran::of(command.env("STATE_DIRECTORY", folder.join("state"))).succeeds();
                    }
                }
            });
        }
    });
    assert!(site.server.faults().injected().values().sum::<u64>() > 10);
    let mount = site.lab.mount(&[]);
    for host in 0..HOSTS {
        let tree = site.lab.path(format!("host-{host}/tree"));
        let snapshots = fs::read_dir(mount.path("snapshots")).unwrap().map(|entry| entry.unwrap().path());
        let copies = snapshots.map(|snapshot| copy_of(&snapshot, &tree).join("own"));
        let own: Vec<Vec<u8>> =
            copies.filter(|copy| copy.exists()).map(|copy| fs::read(copy).unwrap()).collect();
        assert_eq!(own.len() as u64, BACKUPS);
        for backup in 0..BACKUPS {
            assert!(own.contains(&noise(host * 100 + backup, 400_000)), "backup {backup} of host {host}");
        }
    }
    drop(mount);
    assert_eq!(site.lab.snapshots().len() as u64, HOSTS * BACKUPS);
    site.is_whole();
}
