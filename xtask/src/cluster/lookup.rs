//! Asks the cluster's DNS server through its Service, as a pod would. Invariant: only an answer with an address counts.

use std::fs::File;
use std::net::{Ipv4Addr, UdpSocket};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sched::{CloneFlags, setns};

use super::{Cluster, node};

/// The address of `name` (RFC 1035: one question of type A, class IN).
pub fn address(cluster: &Cluster, name: &str) -> Result<Ipv4Addr> {
    let path = format!("/proc/{}/ns/net", cluster.first_process()?);
    let network = File::open(&path).with_context(|| format!("open {path}"))?;
    let question = question(name);
    // A thread of its own: it enters the cluster's network for good.
    let asking = thread::spawn(move || {
        setns(network, CloneFlags::CLONE_NEWNET).context("enter the cluster's network")?;
        ask(&question)
    });
    let Ok(answer) = asking.join() else { bail!("asking for {name} ended early") };
    read_answer(&answer.with_context(|| format!("ask the cluster's DNS server for {name}"))?)
        .with_context(|| format!("read the DNS server's answer for {name}"))
}

fn ask(question: &[u8]) -> Result<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("open a socket")?;
    socket.set_read_timeout(Some(Duration::from_secs(1))).context("limit the wait")?;
    socket.send_to(question, (node::DNS_SERVICE, 53)).context("send the question")?;
    let mut answer = vec![0; 512];
    let length = socket.recv(&mut answer).context("wait for an answer")?;
    answer.truncate(length);
    Ok(answer)
}

fn question(name: &str) -> Vec<u8> {
    // Id, flags "recursion desired", one question.
    let mut bytes = vec![0xc0, 0xff, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.extend_from_slice(&[0, 0, 1, 0, 1]);
    bytes
}

fn read_answer(bytes: &[u8]) -> Result<Ipv4Addr> {
    ensure!(bytes.len() > 12 && bytes[..2] == [0xc0, 0xff], "it answers another question");
    let error = bytes[3] & 0x0f;
    ensure!(error == 0, "it says error {error}");
    ensure!(bytes[7] >= 1, "it gives no address");
    // One record of type A ends with its length, 4, and the address; nothing follows, as we sent no EDNS.
    let Some((rest, address)) = bytes.split_last_chunk::<4>() else { bail!("it is too short") };
    ensure!(rest.ends_with(&[0, 4]), "its record is no address");
    Ok(Ipv4Addr::from(*address))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    #[test]
    fn an_address_is_read_and_a_missing_name_is_not() {
        let mut answer = question("a.b");
        answer[2] |= 0x80;
        answer[7] = 1;
        answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4, 10, 98, 0, 1]);
        assert_eq!(read_answer(&answer).unwrap(), Ipv4Addr::new(10, 98, 0, 1));
        answer[3] |= 3;
        assert!(read_answer(&answer).unwrap_err().to_string().contains("error 3"));
    }
}
