//! `yester schedule` from the command line, below a root folder of its own.

use std::fs;

use crate::harness::Lab;

const CONFIG: &str = "schedule = \"02:30\"\n[store.local]\nurl = \"/srv/backup\"\nkey-file = \"/root/yester.key\"\n\
                      [source.etc]\npaths = [\"/etc\"]\n";

#[test]
fn what_is_shown_is_installed_and_removed() {
    let lab = Lab::empty();
    let (config, root) = (lab.path("config.toml"), lab.path("root"));
    fs::write(&config, CONFIG).unwrap();
    fs::create_dir_all(root.join("etc/cron.d")).unwrap();
    let (config, root_text) = (config.to_str().unwrap(), root.to_str().unwrap());

    let shown = lab.run(["--config", config, "schedule", "show", "--cron"]).succeeds();
    let installed = ["--config", config, "schedule", "install", "--root", root_text];
    lab.run(installed).succeeds();
    let file = root.join("etc/cron.d/yester");
    let text = fs::read_to_string(&file).unwrap();
    assert!(shown.ends_with(&text), "{shown}");
    let run = format!("\n30 2 * * *  root  {} --config {config} run\n", crate::harness::YESTER);
    assert!(text.contains(&run), "{text}");
    let again = lab.run(installed);
    again.succeeds();
    assert!(again.stderr.contains("is so already"), "{}", again.stderr);

    lab.run(["schedule", "remove", "--root", root_text]).succeeds();
    assert!(!file.exists());
    fs::write(&file, "# mine\n").unwrap();
    let refused = lab.run(installed);
    assert!(refused.fails(1).contains("is not from yester"), "{}", refused.stderr);
    assert_eq!(fs::read_to_string(&file).unwrap(), "# mine\n");
}
