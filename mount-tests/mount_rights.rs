//! Who may do what in a mount: root, the users that root lets in, and users who mount for themselves.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::harness::{Lab, Need, Ran, YESTER, can, noise, succeed};
use crate::semantics::{NEEDS, copy_of, ingest, snapshot_of};

/// The user `nobody` and its group, who own nothing.
const NOBODY: u32 = 65_534;
/// A user who owns something.
const OWNER: u32 = 65_533;

/// Prepares a command of another user.
fn as_user(user: u32, program: &str) -> Command {
    let mut command = Command::new("setpriv");
    let id = user.to_string();
    command
        .args(["--reuid", &id, "--regid", &id, "--clear-groups", program])
        .current_dir("/")
        .stdin(Stdio::null());
    command
}

/// Tells what another user reads, if it may.
fn read_as(user: u32, path: &Path) -> Option<String> {
    let output = as_user(user, "cat").arg(path).output().unwrap();
    let refused = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() || refused.contains("Permission denied"), "{refused}");
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

/// Lets others through to the mount point: only the mount is to decide who enters.
fn open_the_way(lab: &Lab) {
    for path in [lab.path(""), lab.path("tree")] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o711)).unwrap();
    }
}

fn file(path: &Path, mode: u32, owner: u32) {
    fs::write(path, "text").unwrap();
    chown(path, Some(owner), Some(owner)).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Files of several owners and modes.
fn guarded_tree(tree: &Path) {
    file(&tree.join("public"), 0o644, 0);
    file(&tree.join("secret"), 0o600, 0);
    file(&tree.join("own"), 0o600, OWNER);
    fs::create_dir(tree.join("closed")).unwrap();
    file(&tree.join("closed/public"), 0o644, 0);
    fs::set_permissions(tree.join("closed"), fs::Permissions::from_mode(0o700)).unwrap();
}

fn guarded() -> (Lab, PathBuf) {
    let (lab, tree) = snapshot_of(|tree| {
        guarded_tree(tree);
        fs::set_permissions(tree, fs::Permissions::from_mode(0o755)).unwrap();
    });
    // The directory above is in the snapshot, too.
    open_the_way(&lab);
    ingest(&lab, &tree);
    (lab, tree)
}

#[test]
fn s33_what_root_mounts_only_root_enters() {
    if !can(&NEEDS) {
        return;
    }
    let (lab, tree) = guarded();
    let mount = lab.mount(&[]);
    let copy = copy_of(&mount, &tree);
    assert_eq!(fs::read_to_string(copy.join("secret")).unwrap(), "text");
    for path in [mount.path(""), mount.path("snapshots"), copy.join("public")] {
        let stat = Ran::of(as_user(NOBODY, "stat").arg(&path));
        assert!(stat.fails(1).contains("Permission denied"), "{}", stat.stderr);
        let list = Ran::of(as_user(NOBODY, "ls").arg(&path));
        assert!(list.fails(2).contains("Permission denied"), "{}", list.stderr);
    }
}

#[test]
fn s34_others_enter_by_owner_and_mode() {
    if !can(&NEEDS) {
        return;
    }
    let (lab, tree) = guarded();
    let mount = lab.mount(&["--allow-other"]);
    let copy = copy_of(&mount, &tree);
    let text = || Some("text".to_owned());
    assert_eq!(read_as(NOBODY, &copy.join("public")), text());
    assert_eq!(read_as(NOBODY, &copy.join("secret")), None);
    assert_eq!(read_as(NOBODY, &copy.join("own")), None);
    assert_eq!(read_as(NOBODY, &copy.join("closed/public")), None);
    assert_eq!(read_as(OWNER, &copy.join("own")), text());
    assert_eq!(fs::read_to_string(copy.join("own")).unwrap(), "text", "and root everywhere");
    let snapshots = as_user(NOBODY, "ls").arg(mount.path("snapshots")).output().unwrap();
    assert!(snapshots.status.success(), "the views are open to all");
}

#[test]
fn s35_access_control_lists_hold_for_others() {
    if !can(&NEEDS) {
        return;
    }
    let (lab, tree) = guarded();
    let set = |what: &str, name: &str| {
        let path = tree.join(name);
        file(&path, 0o640, OWNER);
        succeed(Command::new("setfacl").args(["-m", what]).arg(&path));
    };
    set(&format!("u:{NOBODY}:r"), "granted");
    // The group bits of the mode are a mask here, not what the group may.
    set(&format!("u:7:r,g::-,g:{NOBODY}:-"), "denied");
    chown(tree.join("denied"), Some(OWNER), Some(NOBODY)).unwrap();
    ingest(&lab, &tree);
    assert_eq!(fs::metadata(tree.join("denied")).unwrap().mode() & 0o070, 0o040);
    let mount = lab.mount(&["--allow-other"]);
    let copy = copy_of(&mount, &tree);
    for root in [&tree, &copy] {
        assert!(read_as(NOBODY, &root.join("granted")).is_some());
        assert!(read_as(NOBODY, &root.join("denied")).is_none());
        assert!(read_as(OWNER, &root.join("denied")).is_some());
    }
}

#[test]
fn s36_a_mount_for_a_user_is_that_users_alone() {
    if !can(&NEEDS) {
        return;
    }
    let (lab, tree) = guarded();
    succeed(Command::new("setfacl").args(["-m", &format!("u:{NOBODY}:rw")]).arg(tree.join("secret")));
    succeed(Command::new("setfacl").args(["-m", &format!("u:{NOBODY}:rwx")]).arg(&tree));
    ingest(&lab, &tree);
    let daemon = nix::unistd::User::from_name("daemon").unwrap().unwrap();
    let mount = lab.mount(&["--for", "daemon"]);
    let copy = copy_of(&mount, &tree);
    for name in ["public", "secret", "own", "closed/public"] {
        assert_eq!(read_as(daemon.uid.as_raw(), &copy.join(name)).as_deref(), Some("text"), "{name}");
        assert_eq!(read_as(NOBODY, &copy.join(name)), None, "{name}");
        assert_eq!(fs::read_to_string(copy.join(name)).unwrap(), "text", "and root");
    }
    for path in [mount.path(""), mount.path("snapshots"), copy.join("public")] {
        let list = Ran::of(as_user(NOBODY, "ls").arg(&path));
        assert!(list.fails(2).contains("Permission denied"), "{}", list.stderr);
    }
    let shown = fs::metadata(copy.join("secret")).unwrap();
    assert_eq!((shown.uid(), shown.mode() & 0o7777), (daemon.uid.as_raw(), 0o400));
    let lists = succeed(Command::new("getfattr").args(["-d", "-m", "-"]).arg(copy.join("secret")));
    assert_eq!(lists, "", "grants to others are not shown");
    let other = lab.path("other");
    fs::create_dir(&other).unwrap();
    let absent = lab.run([Path::new("mount"), &other, Path::new("--for"), Path::new("no-such-user")]);
    assert!(absent.fails(2).contains("there is no user \"no-such-user\""), "{}", absent.stderr);
}

#[test]
fn s37_where_permissions_are_ignored_who_enters_reads_everything() {
    if !can(&NEEDS) {
        return;
    }
    let (lab, tree) = guarded();
    let mount = lab.mount(&["--ignore-permissions", "--allow-other"]);
    for name in ["public", "secret", "own", "closed/public"] {
        assert_eq!(read_as(NOBODY, &copy_of(&mount, &tree).join(name)).as_deref(), Some("text"), "{name}");
    }
    let write = as_user(NOBODY, "touch").arg(copy_of(&mount, &tree).join("public")).output().unwrap();
    assert!(String::from_utf8_lossy(&write.stderr).contains("Read-only"), "{write:?}");
    drop(mount);
    let mount = lab.mount(&["--ignore-permissions"]);
    assert_eq!(read_as(NOBODY, &copy_of(&mount, &tree).join("public")), None, "nobody else enters");
}

/// Puts a program into the tree that tells the user it runs as.
fn tree_with_a_program(tree: &Path) {
    fs::set_permissions(tree, fs::Permissions::from_mode(0o755)).unwrap();
    fs::copy("/usr/bin/id", tree.join("id")).unwrap();
    chown(tree.join("id"), Some(0), Some(0)).unwrap();
    fs::set_permissions(tree.join("id"), fs::Permissions::from_mode(0o4755)).unwrap();
}

#[test]
fn s38_set_id_bits_are_shown_and_mean_nothing() {
    if !can(&NEEDS) {
        return;
    }
    let (lab, tree) = snapshot_of(tree_with_a_program);
    open_the_way(&lab);
    fs::set_permissions(&tree, fs::Permissions::from_mode(0o755)).unwrap();
    ingest(&lab, &tree);
    let mount = lab.mount(&["--allow-other"]);
    let program = copy_of(&mount, &tree).join("id");
    let runs_as = |path: &Path| {
        let mut command = as_user(NOBODY, path.to_str().unwrap());
        succeed(command.arg("-u")).trim().to_owned()
    };
    assert_eq!(fs::metadata(&program).unwrap().mode() & 0o7777, 0o4755);
    assert_eq!(runs_as(&program), NOBODY.to_string());
}

#[test]
fn s39_programs_run_unless_that_was_forbidden() {
    if !can(&NEEDS) {
        return;
    }
    let (lab, tree) = snapshot_of(tree_with_a_program);
    let mount = lab.mount(&[]);
    succeed(&mut Command::new(copy_of(&mount, &tree).join("id")));
    drop(mount);
    let mount = lab.mount(&["--noexec"]);
    let program = copy_of(&mount, &tree).join("id");
    let refused = Command::new(&program).output().unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    assert_eq!(fs::read(&program).unwrap(), fs::read("/usr/bin/id").unwrap());
}

/// A user's session: `/dev/fuse` is open to all in it, as it is on most machines.
fn user_session(lab: &Lab, script: &str) -> Ran {
    let id = NOBODY.to_string();
    let text = format!(
        r#"
        mknod -m 666 "$LAB/fuse" c 10 229
        mount --bind "$LAB/fuse" /dev/fuse
        as_user() {{ setpriv --reuid {id} --regid {id} --clear-groups "$@"; }}
        cd "$LAB"
        {script}
        "#
    );
    let mut command = Command::new("unshare");
    command
        .args(["-m", "sh", "-euc", &text])
        .env("LAB", lab.store().parent().unwrap())
        .env("YESTER", YESTER)
        .env("YESTER_STORE", lab.store())
        .env("YESTER_KEY_FILE", lab.path("key"))
        .env("CACHE_DIRECTORY", lab.path("cache"))
        .env("STATE_DIRECTORY", lab.path("state"))
        .stdin(Stdio::null());
    let ran = Ran::of(&mut command);
    for server in lab.servers() {
        let _ = rustix::process::kill_process(server, rustix::process::Signal::KILL);
    }
    ran
}

/// Makes a laboratory that belongs to an ordinary user; returns the tree, which has a file of root's.
fn users_lab() -> (Lab, PathBuf) {
    let (lab, tree) = snapshot_of(|tree| {
        fs::write(tree.join("file"), noise(1, 300_000)).unwrap();
        fs::hard_link(tree.join("file"), tree.join("again")).unwrap();
        rustix::fs::setxattr(tree.join("file"), "user.note", b"kept", rustix::fs::XattrFlags::empty())
            .unwrap();
        succeed(Command::new("chown").args(["-R", &NOBODY.to_string()]).arg(tree));
        file(&tree.join("roots"), 0o600, 0);
    });
    fs::create_dir(lab.path("mnt")).unwrap();
    for path in ["", "mnt", "key", "store", "cache", "state"] {
        succeed(Command::new("chown").args(["-R", "-h", &NOBODY.to_string()]).arg(lab.path(path)));
    }
    chown(tree.join("roots"), Some(0), Some(0)).unwrap();
    ingest(&lab, &tree);
    for path in ["store", "cache", "state"] {
        succeed(Command::new("chown").args(["-R", "-h", &NOBODY.to_string()]).arg(lab.path(path)));
    }
    (lab, tree)
}

#[test]
fn s40_ordinary_users_mount_for_themselves() {
    let user = [Need::Tool("setpriv"), Need::Tool("unshare")];
    if !can(&NEEDS) || !can(&user) {
        return;
    }
    let (lab, tree) = users_lab();
    let below = tree.strip_prefix("/").unwrap().display().to_string();
    let script = format!(
        r#"
        copy="mnt/latest/{below}"
        as_user "$YESTER" mount "$LAB/mnt" --quiet
        as_user cmp "$copy/file" "{tree}/file"
        as_user getfattr --only-values -n user.note "$copy/file"; echo
        as_user stat -c %h "$copy/again"
        as_user cat "$copy/roots" || echo "not even where the user mounted"
        ls mnt || echo "root stays outside"
        as_user ls mnt
        as_user "$YESTER" umount mnt
        ! mountpoint -q mnt
        as_user "$YESTER" mount "$LAB/mnt" --quiet --ignore-permissions --noexec
        as_user cat "$copy/roots"; echo
        as_user fusermount3 -u mnt
        ! mountpoint -q mnt
        as_user "$YESTER" mount "$LAB/mnt" --quiet --allow-other || echo "code $?"
        "#,
        tree = tree.display()
    );
    let ran = user_session(&lab, &script);
    let shown = ran.succeeds();
    let expected = "kept\n2\nnot even where the user mounted\nroot stays outside\nhosts\nlatest\nsnapshots\nsources\ntags\n\
                    text\ncode 1\n";
    assert_eq!(shown, expected, "{}", ran.stderr);
    assert!(ran.stderr.contains("user_allow_other in /etc/fuse.conf"), "{}", ran.stderr);
}

#[test]
fn s41_users_get_out_of_dead_mounts_too() {
    let user = [Need::Tool("setpriv"), Need::Tool("unshare"), Need::Tool("pgrep")];
    if !can(&NEEDS) || !can(&user) {
        return;
    }
    let (lab, _) = users_lab();
    let script = r#"
        as_user "$YESTER" mount "$LAB/mnt" --quiet
        server=$(pgrep -f "^yester mount $LAB/mnt")
        kill -9 "$server"
        while kill -0 "$server" 2>/dev/null; do sleep 0.05; done
        as_user ls mnt 2>/dev/null || echo dead
        as_user "$YESTER" mount "$LAB/mnt"
        as_user ls mnt
        as_user "$YESTER" umount mnt
    "#;
    let ran = user_session(&lab, script);
    assert_eq!(ran.succeeds(), "dead\nhosts\nlatest\nsnapshots\nsources\ntags\n", "{}", ran.stderr);
    assert!(ran.stderr.contains("had lost its server"), "{}", ran.stderr);
}
