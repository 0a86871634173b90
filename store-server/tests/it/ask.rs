//! Several selections of one request: what is remembered of hosts from one to the next changes no answer.

use store_server::engine::LastHosts;

use crate::site::{NOW, Site, fill, request};

#[test]
fn many_hosts_are_answered_alike_host_by_host_metric_by_metric_and_one_by_one() {
    const HOSTS: i64 = 70;
    let site = Site::new();
    let engine = site.start();
    let name = |host: i64| format!("n{host}");
    for host in 0..HOSTS {
        for (metric, step) in [("power", 1), ("load", 10), ("net", 10)] {
            fill(&engine, &name(host), metric, NOW + host % 3, step, 5 + host % 4, host);
        }
    }
    let names: Vec<String> = (0..HOSTS).map(name).chain(["nobody".to_owned()]).collect();
    let metrics = ["power", "load", "net", "disk"];
    let by_host = names.iter().flat_map(|name| metrics.map(|metric| (&**name, metric)));
    let by_metric = metrics.into_iter().flat_map(|metric| names.iter().map(move |name| (&**name, metric)));
    for selections in [by_host.collect::<Vec<_>>(), by_metric.collect()] {
        let mut last = LastHosts::default();
        let mut found = 0;
        for (host, metric) in selections {
            let asked = request(host, metric, &[], NOW - 100, NOW + 100);
            let together = engine.read_next(&asked, &mut last).unwrap();
            assert_eq!(together, engine.read(&asked).unwrap(), "{host} {metric}");
            found += i64::from(together.is_some());
        }
        assert_eq!(found, 3 * HOSTS);
    }
}
