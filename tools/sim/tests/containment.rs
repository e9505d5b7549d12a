//! The containment contract, and that the checker sees it broken: each publication lies inside the one before it of its
//! epoch, aged; another epoch comes only after a page without a bound; `earliest` never goes back within an epoch.
//!
//! That it holds is checked on every publication of every scenario and seed. Here are the faults.

use truebound_client::page::Publication;
use truebound_client::{Reason, Status};
use truebound_sim::checker::Checker;
use truebound_sim::world::{HostSpec, NS_PER_S, World, following, root, source};

/// A world with a settled client.
fn settled(seed: u64) -> (World, usize) {
    let mut world = World::new(seed);
    let server = world.add(HostSpec { is_checked: false, ..HostSpec::ROOT }, root(0, 20_000));
    let client = world.add(HostSpec::CLIENT, following(&[source(server)]));
    world.run(20 * NS_PER_S);
    let checker = &world.hosts[client].checker;
    assert!(checker.faults.is_empty() && checker.violations == 0, "{:?}", checker.faults);
    assert!(checker.page.as_ref().is_some_and(|page| page.status.has_bound()));
    (world, client)
}

/// Publishes what `change` makes of the client's page, carried to now; gives the faults.
fn faults_of(
    seed: u64,
    change: impl FnOnce(&mut Checker, &mut Publication, &mut dyn FnMut(&mut Checker, Publication)),
) -> Vec<String> {
    let (mut world, client) = settled(seed);
    let t = world.now;
    let raw = [world.hosts[client].raw(t - 1).as_ns(), world.hosts[client].raw(t).as_ns()];
    let host = &mut world.hosts[client];
    let mut page = host.checker.page.clone().expect("it is settled");
    page.bound = page.bound.carried_to(raw[1]).expect("it is young");
    change(&mut host.checker, &mut page, &mut |checker, page| checker.publish(t, raw, 0, page));
    host.checker.faults.clone()
}

/// A page that says nothing.
fn withdrawn(page: &Publication, epoch: u64) -> Publication {
    let (status, reason) = (Status::Disrupted, Reason::Suspended);
    Publication { status, reason, epoch, bound: Default::default(), asserted: None, ..page.clone() }
}

#[test]
fn an_update_that_is_carried_on_is_no_fault() {
    for seed in 1..=5 {
        let faults = faults_of(seed, |checker, page, publish| publish(checker, page.clone()));
        assert!(faults.is_empty(), "seed {seed}: {faults:?}");
    }
}

#[test]
fn an_update_one_nanosecond_outside_is_caught_on_either_side() {
    for (seed, (lo_ns, hi_ns)) in (1..=5).flat_map(|seed| [(seed, (-1, 0)), (seed, (0, 1))]) {
        let faults = faults_of(seed, |checker, page, publish| {
            page.bound.theta_lo_ns += lo_ns;
            page.bound.theta_hi_ns += hi_ns;
            publish(checker, page.clone());
        });
        assert!(faults.iter().any(|fault| fault.starts_with("an update lies outside")), "seed {seed}: {faults:?}");
    }
}

#[test]
fn another_epoch_without_a_withdrawal_is_caught_and_with_one_it_is_none() {
    for seed in 1..=5 {
        let faults = faults_of(seed, |checker, page, publish| {
            page.epoch += 1;
            page.bound.theta_lo_ns -= 1_000_000;
            publish(checker, page.clone());
        });
        assert!(faults.iter().any(|fault| fault.starts_with("an epoch was withdrawn")), "seed {seed}: {faults:?}");
        let faults = faults_of(seed, |checker, page, publish| {
            publish(checker, withdrawn(page, page.epoch + 1));
            page.epoch += 1;
            page.bound.theta_lo_ns -= 1_000_000;
            publish(checker, page.clone());
        });
        assert!(faults.is_empty(), "seed {seed}: {faults:?}");
    }
}

#[test]
fn a_withdrawal_alone_excuses_nothing_and_earliest_never_goes_back() {
    for seed in 1..=5 {
        let faults = faults_of(seed, |checker, page, publish| {
            publish(checker, withdrawn(page, page.epoch));
            page.bound.theta_lo_ns -= 1_000_000;
            publish(checker, page.clone());
        });
        assert!(faults.iter().any(|fault| fault.starts_with("an update lies outside")), "seed {seed}: {faults:?}");
        assert!(faults.iter().any(|fault| fault.starts_with("`earliest` went back")), "seed {seed}: {faults:?}");
    }
}
