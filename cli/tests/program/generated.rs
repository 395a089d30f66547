//! Help, completions and the man page.

use crate::run::Folder;

#[tokio::test]
async fn completions_and_the_man_page_name_every_command() {
    let folder = Folder::new();
    for shell in ["bash", "zsh", "fish"] {
        let ran = folder.run(&format!("completions {shell}")).await;
        assert_eq!(
            (ran.code, ran.out.contains("rotate") && ran.out.contains("service-account")),
            (0, true),
            "{shell}"
        );
    }
    let ran = folder.run("man").await;
    assert_eq!(ran.code, 0);
    for text in [
        ".TH cofferdam",
        "COFFERDAM KMS CHECK",
        "COFFERDAM KEY ROTATE",
        "Exit codes",
        "allow\\-loopback\\-http",
    ] {
        assert!(ran.out.contains(text), "{text}");
    }
}

#[tokio::test]
async fn help_and_version_succeed_and_a_wrong_word_does_not() {
    let folder = Folder::new();
    let ran = folder.run("--version").await;
    assert_eq!((ran.code, ran.out.trim()), (0, concat!("cofferdam ", env!("CARGO_PKG_VERSION"))));
    let ran = folder.run("kms check --help").await;
    assert_eq!((ran.code, ran.out.contains("Exit codes:")), (0, true));
    assert_eq!(folder.run("key destroy").await.code, 64);
    assert!(folder.path().is_dir());
}
