//! Hot restarts that nobody sees, with clients that ask all the time and must all be answered.

use crate::{
    harness::{Load, Setup},
    service::Service,
};

fn setup() -> Setup {
    Setup::serving("hello").option("--rollback-window", "50ms")
}

#[test]
fn nobody_sees_a_restart() {
    let service = Service::start(setup());
    let load = Load::start(service.host.addresses[0], 16, "bob\n", "Hello bob!\n");
    for _ in 0..10 {
        service.restart();
        load.goes_on(50);
    }
    load.stop();
    assert_eq!(service.current().number, 11);
}

#[test]
fn a_successor_that_dies_before_it_serves_changes_nothing() {
    let service = Service::start(setup());
    let load = Load::start(service.host.addresses[0], 8, "bob\n", "Hello bob!\n");
    service.order("successor before-sending prepared kill");
    let record = service.restart_that_fails();
    assert!(record.contains("before its \"prepared\"") && record.contains("signal: 9"), "{record}");
    load.goes_on(50);
    service.order("");
    service.restart();
    load.goes_on(50);
    load.stop();
}
