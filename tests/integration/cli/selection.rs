//! Databases, names and lists that can't be meant: refused before a server is spoken to.

use super::said_of_all;

#[test]
fn a_pattern_a_part_or_a_prefix_that_can_not_be_meant_is_refused() {
    insta::assert_snapshot!(said_of_all(&[
        "migrate --from h --to g --exclude [",
        "migrate --from h --to g --exclude **",
        "migrate --from h --to g --match [a-ä]",
        "migrate --shard 3/2",
        "migrate --shard half",
        "migrate --from h --to g --prefix=",
        "migrate --from h --to g --strip-prefix=",
        "migrate --from h --to g --db-prefix={db}",
        "migrate --from h --to g --db-prefix=shop:",
    ]), @r#"
    $ redknot migrate --from h --to g --exclude [
    exit 2
    error: --exclude can't be `[`
      a `[` is not closed
    hint: as in KEYS: * any text, ? one character, [a-z] one of them, \ before a character that is meant itself

    $ redknot migrate --from h --to g --exclude **
    exit 2
    error: --exclude can't be `**`
      it matches every name, and no key would be left
    hint: leave it away, or name what is to be left out

    $ redknot migrate --from h --to g --match [a-ä]
    exit 2
    error: --match can't be `[a-ä]`
      a range with an end beyond ASCII means something else on servers of another kind of processor
    hint: as in KEYS: * any text, ? one character, [a-z] one of them, \ before a character that is meant itself

    $ redknot migrate --shard 3/2
    exit 2
    error: --shard can't be `3/2`
      out of range: of n parts, 1/n to n/n can be asked for, and n is at most 65536
    hint: redknot migrate --help

    $ redknot migrate --shard half
    exit 2
    error: --shard can't be `half`
      not a shard, such as 3/8: the third of eight parts that together are all keys
    hint: redknot migrate --help

    $ redknot migrate --from h --to g --prefix=
    exit 2
    error: --prefix can't be empty
      every name begins with nothing
    hint: leave it away where names stay what they are

    $ redknot migrate --from h --to g --strip-prefix=
    exit 2
    error: --strip-prefix can't be empty
      every name begins with nothing
    hint: leave it away where names stay what they are

    $ redknot migrate --from h --to g --db-prefix={db}
    exit 2
    error: --db-prefix can't be `{db}`
      something other than a digit has to follow `{db}`, or the keys of databases 1 and 12 could not be told apart
    hint: --db-prefix alone means db{db}:

    $ redknot migrate --from h --to g --db-prefix=shop:
    exit 2
    error: --db-prefix can't be `shop:`
      without `{db}` all databases get the same prefix; `db{db}:` makes db0:, db1: and so on
    hint: --db-prefix alone means db{db}:
    "#);
}

#[test]
fn databases_that_can_not_be_meant_are_refused() {
    insta::assert_snapshot!(said_of_all(&[
        "migrate --db-map 3:",
        "migrate --db-map 3",
        "migrate --db-map 3:-1",
        "migrate --from h --to g --db-map 3:0,3:1",
        "migrate --from h --to g --db-map *:0,*:1",
        "migrate --from h --to g --db-map *:0",
        "migrate --from h --to g --db 0,1 --db-map 7:0",
        "migrate --from h --to g --db 0,1 --all-dbs",
        "migrate --from redis://h/3 --to g --all-dbs",
        "migrate --from h --to g --to-db 3 --db-map 1:0",
    ]), @r#"
    $ redknot migrate --db-map 3:
    exit 2
    error: --db-map can't be `3:`
      not of the form 3:0, a database of the source and one of the target, or *:0 for all others
    hint: redknot migrate --help

    $ redknot migrate --db-map 3
    exit 2
    error: --db-map can't be `3`
      not of the form 3:0, a database of the source and one of the target, or *:0 for all others
    hint: redknot migrate --help

    $ redknot migrate --db-map 3:-1
    exit 2
    error: --db-map can't be `3:-1`
      not of the form 3:0, a database of the source and one of the target, or *:0 for all others
    hint: redknot migrate --help

    $ redknot migrate --from h --to g --db-map 3:0,3:1
    exit 2
    note: --from means redis://h:6379/0
    note: --to means redis://g:6379/0
    error: --db-map sends database 3 to two places
      a migration moves a key to one place
    hint: leave one of them away; a second migration with another --name can move it elsewhere

    $ redknot migrate --from h --to g --db-map *:0,*:1
    exit 2
    note: --from means redis://h:6379/0
    note: --to means redis://g:6379/0
    error: --db-map sends `*` to two places
      a migration moves a key to one place
    hint: leave one of them away; a second migration with another --name can move it elsewhere

    $ redknot migrate --from h --to g --db-map *:0
    exit 2
    note: --from means redis://h:6379/0
    note: --to means redis://g:6379/0
    error: --db-map with a star does not say which databases there are
      `*` means all others of those that are moved
    hint: give --all-dbs, or --db with their numbers

    $ redknot migrate --from h --to g --db 0,1 --db-map 7:0
    exit 2
    note: --from means redis://h:6379/0
    note: --to means redis://g:6379/0
    error: --db-map 7:0 and --db contradict each other
      database 7 is not among those of --db
    hint: leave one of them away

    $ redknot migrate --from h --to g --db 0,1 --all-dbs
    exit 2
    note: --from means redis://h:6379/0
    note: --to means redis://g:6379/0
    error: --all-dbs and --db contradict each other
      one names some databases, the other means all that hold keys
    hint: leave one of them away

    $ redknot migrate --from redis://h/3 --to g --all-dbs
    exit 2
    note: --to means redis://g:6379/0
    error: --all-dbs and the database of --from contradict each other
      --all-dbs names the databases of both sides, and --from or --from-db names one too
    hint: leave one of them away

    $ redknot migrate --from h --to g --to-db 3 --db-map 1:0
    exit 2
    note: --from means redis://h:6379/0
    note: --to means redis://g:6379/3
    error: --db-map and the database of --to contradict each other
      --db-map names the databases of both sides, and --to or --to-db names one too
    hint: leave one of them away
    "#);
}

#[test]
fn a_list_that_can_not_be_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().display().to_string();
    std::fs::write(folder.path().join(".bad"), "good\n\nb\\ad\\q\n").unwrap();
    std::fs::write(folder.path().join(".empty"), "\n\n").unwrap();
    let lines = [
        "migrate --from h --to g --keys-from0",
        "migrate --from h --to g --state-dir STATE --keys-from STATE/none",
        "migrate --from h --to g --state-dir STATE --keys-from STATE/.bad",
        "migrate --from h --to g --state-dir STATE --keys-from STATE/.empty",
        "migrate --from h --to g --state-dir STATE --keys-from -",
        "migrate --from h --to g --keys-from - --from-pass-file -",
    ];
    let lines = lines.map(|line| line.replace("STATE", &state));
    let said = said_of_all(&lines.each_ref().map(String::as_str));
    insta::assert_snapshot!(said.replace(&state, "STATE"), @r#"
    $ redknot migrate --from h --to g --keys-from0
    exit 2
    error: --keys-from0 says nothing without --keys-from
      it says how the names of a list are written
    hint: give --keys-from FILE as well, or leave it away

    $ redknot migrate --from h --to g --state-dir STATE --keys-from STATE/none
    exit 2
    note: --from means redis://h:6379/0
    note: --to means redis://g:6379/0
    error: --keys-from: STATE/none can't be read
      No such file or directory (os error 2)
    hint: names stand one a line, escaped as redknot keys prints them; -0 takes them as they are, each followed by a NUL

    $ redknot migrate --from h --to g --state-dir STATE --keys-from STATE/.bad
    exit 2
    note: --from means redis://h:6379/0
    note: --to means redis://g:6379/0
    error: STATE/.bad:3: this is no name
      `\` is followed by q
    hint: names stand one a line, escaped as redknot keys prints them; -0 takes them as they are, each followed by a NUL

    $ redknot migrate --from h --to g --state-dir STATE --keys-from STATE/.empty
    exit 2
    note: --from means redis://h:6379/0
    note: --to means redis://g:6379/0
    error: --keys-from: there is no name in STATE/.empty
      nothing would be moved
    hint: names stand one a line, escaped as redknot keys prints them; -0 takes them as they are, each followed by a NUL

    $ redknot migrate --from h --to g --state-dir STATE --keys-from -
    exit 2
    note: --from means redis://h:6379/0
    note: --to means redis://g:6379/0
    error: --keys-from: there is no name in standard input
      nothing would be moved
    hint: names stand one a line, escaped as redknot keys prints them; -0 takes them as they are, each followed by a NUL

    $ redknot migrate --from h --to g --keys-from - --from-pass-file -
    exit 2
    error: --keys-from - and a password from standard input contradict each other
      what is read from there once is gone
    hint: leave one of them away; it may also stand in the environment or in --config
    "#);
}
