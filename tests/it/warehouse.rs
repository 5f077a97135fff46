//! `assay warehouse` as far as it goes without a PostgreSQL: all that is checked before one is asked.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::kit::said;

struct Shop {
    folder: TempDir,
    url: String,
}

impl Shop {
    fn new() -> Self {
        // A port that was free a moment ago: nobody answers there.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let shop = Self { folder: TempDir::new().unwrap(), url: format!("postgres://ana@127.0.0.1:{port}/shop") };
        std::fs::create_dir(shop.folder.path().join("sql")).unwrap();
        let made = ["--events", "300", "--seed", "1", "--json-share", "0", "--v2", "0", "--output", "made.jsonl"];
        assert!(shop.run(&[&["generate"][..], &made].concat()).status.success());
        assert!(shop.run(&["load", "made.jsonl"]).status.success());
        shop
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_assay"))
            .args(arguments)
            .current_dir(self.folder.path())
            .env("ASSAY_WAREHOUSE_PASSWORD", "kept-secret")
            .env("ASSAY_SQL_FOLDER", self.folder.path().join("sql"))
            .output()
            .unwrap()
    }

    fn refused(&self, code: i32, url: &str) -> String {
        let told = said(&self.run(&["warehouse", "--url", url]), code);
        assert!(!told.contains("kept-secret"), "{told}");
        told
    }

    fn write(&self, name: &str, text: &str) {
        let path: PathBuf = self.folder.path().join("sql").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

#[test]
fn files_are_planned_against_the_lake_before_anybody_is_asked() {
    let shop = Shop::new();
    shop.write("reference/none.csv", "value\nnone\n");
    // All built-in files fit a lake in which no message has a merchant_id: only then is the server missed.
    let told = shop.refused(1, &shop.url);
    assert!(told.contains("the warehouse at 127.0.0.1") && told.contains("cannot be reached"), "{told}");

    let fact = include_str!("../../sql/warehouse/fct_transactions.sql");
    shop.write("warehouse/fct_transactions.sql", &fact.replace("transactions.city,", "transactions.town AS city,"));
    let line = 1 + fact.lines().position(|line| line.contains("transactions.city,")).unwrap();
    let told = shop.refused(2, &shop.url);
    assert!(told.contains(&format!("fct_transactions.sql:{line}:")) && told.contains("no column `town`"), "{told}");

    shop.write("warehouse/fct_transactions.sql", &fact.replace("    transactions.city,\n", ""));
    let told = shop.refused(2, &shop.url);
    assert!(told.contains("`columns` names `city`, and the query does not select it"), "{told}");

    let list = fact.replace("transactions.city,", "make_array(make_array(transactions.city)) AS city,");
    shop.write("warehouse/fct_transactions.sql", &list);
    let told = shop.refused(2, &shop.url);
    assert!(told.contains("`city`: lists of lists have no place in PostgreSQL"), "{told}");
}

#[test]
fn an_address_that_cannot_be_used_is_refused() {
    let shop = Shop::new();
    shop.write("reference/none.csv", "value\nnone\n");
    let told = shop.refused(2, &shop.url.replace("ana@", "ana:kept-secret@"));
    assert!(told.contains("ASSAY_WAREHOUSE_PASSWORD"), "{told}");
    let told = shop.refused(2, "");
    assert!(told.contains("warehouse.url is empty; give --url"), "{told}");
    let told = said(&shop.run(&["warehouse", "--url", &shop.url, "--schema", "pg_mine"]), 2);
    assert!(told.contains("warehouse.schema `pg_mine`"), "{told}");
}
