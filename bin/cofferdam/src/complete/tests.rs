use usage::complete::Asked;

use super::*;
use crate::flags::{GLOBAL, VERBS};

fn asked(shell: Shell, words: &[&str]) -> Asked {
    let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
    Asked::of(&TABLE, shell, &words)
}

fn answer(words: &[&str]) -> String {
    asked(Shell::Bash, words).answer(&["web1".to_owned(), "db".to_owned()])
}

fn none() -> String {
    "words\n".to_owned()
}

#[test]
fn commands_begin_a_line() {
    assert_eq!(answer(&["st"]), "words\nstart\nstate\n");
    assert_eq!(answer(&["--root", "/x", "--debug", "pau"]), "words\npause\n");
    assert_eq!(answer(&["help", "pl"]), "words\nplan\n");
    assert!(!answer(&[""]).contains("checkpoint"), "what is not built is not offered");
    assert_eq!(answer(&["no-such-command", ""]), none());
}

#[test]
fn flags_are_those_of_their_command() {
    assert_eq!(answer(&["--log"]), "words\n--log\n--log-format\n");
    assert_eq!(answer(&["delete", "--f"]), "words\n--force\n");
    assert_eq!(answer(&["delete", "web1", "--f"]), "words\n--force\n");
    assert_eq!(answer(&["kill", "--al"]), none(), "it is hidden");
    assert_eq!(answer(&["delete", "--", "--f"]), none());
    // What follows the id belongs to the program.
    assert_eq!(answer(&["exec", "web1", "--e"]), none());
}

#[test]
fn values_are_words_files_or_directories() {
    assert_eq!(answer(&["--log-format", ""]), "words\njson\ntext\n");
    assert_eq!(answer(&["list", "-f", "j"]), "words\njson\n");
    assert_eq!(answer(&["create", "--bundle", ""]), "directories\n");
    assert_eq!(answer(&["create", "-b", "/srv"]), "directories\n");
    assert_eq!(answer(&["create", "--pid-file", ""]), "files\n");
    assert_eq!(answer(&["plan", ""]), "directories\n");
    assert_eq!(answer(&["exec", "--cap", "CAP_SYS_P"]), "words\nCAP_SYS_PTRACE\nCAP_SYS_PACCT\n");
    assert_eq!(answer(&["try", "--memory", ""]), none());
    assert_eq!(answer(&["completion", ""]), "words\nbash\nfish\nzsh\n");
}

#[test]
fn ids_are_offered_where_a_container_is_named() {
    assert_eq!(answer(&["state", ""]), "words\nweb1\ndb\n");
    assert_eq!(answer(&["kill", "w"]), "words\nweb1\n");
    assert_eq!(answer(&["kill", "web1", "WIN"]), "words\nWINCH\n");
    assert_eq!(answer(&["state", "web1", ""]), none());
    assert_eq!(answer(&["create", ""]), none(), "a new one has a new name");
    let root = |words: &[&str]| asked(Shell::Bash, words).wanted;
    for words in [&["--root", "/x", "start", ""] as &[_], &["--root=/x", "start", ""]] {
        assert_eq!(root(words), Wanted::Container { root: Some("/x".into()) });
    }
    assert_eq!(root(&["start", ""]), Wanted::Container { root: None });
}

#[test]
fn a_value_behind_its_equals_sign_is_completed_as_each_shell_has_it() {
    // bash hands the sign on as a word, and replaces what stands behind it.
    assert_eq!(answer(&["list", "--format", "="]), "words\njson\ntable\n");
    assert_eq!(answer(&["list", "--format", "=", "j"]), "words\njson\n");
    assert_eq!(answer(&["--root", "=", "/x", "list", "-"]), answer(&["list", "-"]));
    assert_eq!(answer(&["try", "--volume", "/a", ":", "/b"]), "files\n");
    let other = |shell| asked(shell, &["list", "--format=j"]).answer(&[]);
    assert_eq!(other(Shell::Zsh), "words\njson\t\ntable\t\n");
    assert_eq!(other(Shell::Fish), "words\n--format=json\t\n--format=table\t\n");
}

#[test]
fn shells_that_show_it_are_told_what_each_word_is() {
    for shell in [Shell::Fish, Shell::Zsh] {
        let answer = asked(shell, &["delete", "--f"]).answer(&[]);
        let force = "--force\tkill it first if it runs; no error if there is none\n";
        assert!(answer.contains(force), "{answer}");
        assert_eq!(asked(shell, &["start", ""]).answer(&["a".into()]), "words\na\tcontainer\n");
    }
}

/// Whatever the table holds is offered: no flag is left out but those that are hidden, or refused.
#[test]
fn every_flag_of_the_table_is_offered() {
    let lists = VERBS.iter().filter(|verb| !verb.unbuilt).map(|verb| (Some(verb.name), verb.flags));
    for (verb, flags) in lists.chain([(None, GLOBAL)]) {
        for flag in flags {
            let name = format!("--{}", flag.long);
            let words: Vec<_> = verb.into_iter().chain([name.as_str()]).collect();
            let is_offered = answer(&words).lines().any(|line| line == name);
            assert_eq!(is_offered, !flag.hidden && !flag.unbuilt, "{words:?}");
        }
    }
}
