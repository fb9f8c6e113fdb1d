//! What the filter lets in, sentence by sentence.

use super::*;
use crate::desired::{self, Named, Ports, Protocol};
use crate::fit::fragment::fragment;
use crate::fit::samples::{behind_extensions, icmp, ip, tcp, udp, with_df, with_options};
use crate::offload::headers::put;

pub(super) const START: Moment = Moment::from_millis(5000);
const SYN_ACK: u8 = SYN | ACK;
const RST: u8 = 4;

pub(super) fn ports(protocol: Option<Named>, first: u16, last: u16) -> Ports {
    let protocol = protocol.map(Protocol::Named);
    Ports {
        protocol,
        first,
        last,
    }
}

fn rule(sources: &[&str], destinations: &[&str], ports: &[Ports]) -> desired::Rule {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    desired::Rule {
        sources: owned(sources),
        destinations: owned(destinations),
        ports: ports.to_vec(),
    }
}

pub(super) fn filter(rules: &[desired::Rule]) -> Filter {
    Filter::new(Rules::new(rules).unwrap())
}

/// From the samples' sender (of either family) to their receiver.
pub(super) fn open_to(ports: Ports) -> Filter {
    filter(&[rule(
        &["10.0.0.1/32", "fd00::1/128"],
        &["10.0.0.2/32", "fd00::2/128"],
        &[ports],
    )])
}

pub(super) fn closed() -> Filter {
    filter(&[])
}

/// The same packet on its way back: addresses and ports change places.
fn back(packet: &[u8]) -> Vec<u8> {
    let mut out = packet.to_vec();
    let (source, len, transport) = if packet[0] >> 4 == 4 {
        (12, 4, 20)
    } else {
        (8, 16, 40)
    };
    out[source..source + len].copy_from_slice(&packet[source + len..source + 2 * len]);
    out[source + len..source + 2 * len].copy_from_slice(&packet[source..source + len]);
    out[transport..transport + 2].copy_from_slice(&packet[transport + 2..transport + 4]);
    out[transport + 2..transport + 4].copy_from_slice(&packet[transport..transport + 2]);
    out
}

fn after(seconds: u64) -> Moment {
    START + Duration::from_secs(seconds)
}

#[test]
fn tcp_is_judged_by_its_first_syn() {
    for family in [4, 6] {
        let segment = |flags| tcp(family, flags, &[], 0);
        for flags in [ACK, SYN_ACK, RST, RST | ACK, FIN | ACK, 0] {
            assert!(closed().admits(&segment(flags), START), "{flags}");
        }
        for flags in [SYN, SYN | FIN, SYN | RST, SYN | 0xc0] {
            assert!(!closed().admits(&segment(flags), START), "{flags}");
            let mut right = open_to(ports(Some(Named::Tcp), 443, 443));
            assert!(right.admits(&segment(flags), START), "{flags}");
            let mut wrong = open_to(ports(Some(Named::Tcp), 444, 65535));
            assert!(!wrong.admits(&segment(flags), START), "{flags}");
        }
    }
    assert!(!closed().admits(&with_options(&tcp(4, SYN, &[], 0), &[1; 4]), START));
}

#[test]
fn what_the_rule_does_not_name_stays_out() {
    let all = ports(None, 0, 65535);
    for (source, destination, admitted) in [
        ("10.0.0.0/24", "10.0.0.2/32", true),
        ("10.0.0.2/32", "10.0.0.2/32", false),
        ("10.0.0.1/32", "10.0.0.1/32", false),
        ("10.0.0.0/32", "0.0.0.0/0", false),
        ("0.0.0.0/0", "0.0.0.0/0", true),
        ("::/0", "::/0", false),
    ] {
        let mut filter = filter(&[rule(&[source], &[destination], &[all])]);
        assert_eq!(filter.admits(&udp(4, 8), START), admitted, "{source}");
    }
}

#[test]
fn prefixes_may_nest_overlap_and_touch() {
    let sources = ["10.0.0.0/31", "10.0.0.0/8", "10.0.0.1/32", "9.0.0.0/8"];
    let all = ports(None, 0, 65535);
    let mut open = filter(&[rule(&sources, &["0.0.0.0/0"], &[all])]);
    let mut packet = udp(4, 8);
    for (from, admitted) in [
        ([9, 255, 255, 255], true),
        ([10, 255, 0, 1], true),
        ([11, 0, 0, 0], false),
        ([8, 255, 255, 255], false),
    ] {
        packet[12..16].copy_from_slice(&from);
        assert_eq!(open.admits(&packet, START), admitted, "{from:?}");
    }
}

#[test]
fn what_we_sent_by_udp_opens_the_way_back_for_five_minutes() {
    for family in [4, 6] {
        let (ours, mut filter) = (udp(family, 8), closed());
        assert!(!filter.admits(&back(&ours), START));
        filter.sent(&ours, START);
        assert!(filter.admits(&back(&ours), after(300)));
        assert!(!filter.admits(&ours, START), "a way back is not a way in");
        assert!(!filter.admits(&back(&ours), after(302)));
        filter.sent(&ours, after(302));
        assert!(filter.admits(&back(&ours), after(310)));
    }
}

#[test]
fn another_port_is_another_flow() {
    let (ours, mut filter) = (udp(4, 8), closed());
    filter.sent(&ours, START);
    let mut answer = back(&ours);
    answer[23] ^= 1;
    assert!(!filter.admits(&answer, START));
}

#[test]
fn flows_that_we_began_outlive_a_change_of_rules_and_others_do_not() {
    let (theirs, ours) = (udp(4, 8), back(&udp(4, 40)));
    let mut filter = open_to(ports(Some(Named::Udp), 443, 443));
    assert!(filter.admits(&theirs, START));
    filter.sent(&ours, START);
    filter.obey(Rules::new(&[]).unwrap());
    assert!(!filter.admits(&theirs, START), "it was let in by a rule");
    let query = icmp(4, 8, 0);
    filter.sent(&query, START);
    filter.obey(Rules::new(&[]).unwrap());
    let mut reply = back(&icmp(4, 0, 0));
    reply[20..24].copy_from_slice(&[0, 0, 0, 0]);
    assert!(filter.admits(&reply, START));
}

#[test]
fn echoes_come_in_by_rule_and_replies_only_to_what_was_asked() {
    for (family, request, reply) in [(4, 8, 0), (6, 128, 129)] {
        let request = icmp(family, request, 8);
        assert!(!closed().admits(&request, START));
        assert!(open_to(ports(Some(Named::Icmp), 0, 65535)).admits(&request, START));
        assert!(!open_to(ports(Some(Named::Tcp), 0, 65535)).admits(&request, START));
        let at = if family == 4 { 20 } else { 40 };
        let mut answer = back(&request);
        answer[at..at + 4].copy_from_slice(&[reply, 0, 0, 0]);
        let mut filter = closed();
        assert!(!filter.admits(&answer, START));
        filter.sent(&request, START);
        assert!(filter.admits(&answer, START));
        answer[at + 5] = 9;
        assert!(!filter.admits(&answer, START), "another identifier");
    }
}

/// An error about `about`, from its receiver to its sender, with so many quoted bytes.
fn error(kind: u8, about: &[u8], quoted: usize) -> Vec<u8> {
    let family = about[0] >> 4;
    let mut message = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    message.extend_from_slice(&about[..quoted]);
    let packet = ip(family, if family == 4 { 1 } else { 58 }, &message);
    let mut out = back(&packet);
    let transport = if family == 4 { 20 } else { 40 };
    out[transport..].copy_from_slice(&message);
    out
}

#[test]
fn an_icmp_error_is_judged_by_what_it_quotes() {
    for (family, kind, header) in [(4, 3, 20), (4, 11, 20), (6, 2, 40), (6, 1, 40)] {
        let ours = udp(family, 100);
        let mut filter = closed();
        let unreachable = error(kind, &ours, header + 8);
        assert!(!filter.admits(&unreachable, START), "nothing was sent");
        filter.sent(&ours, START);
        assert!(filter.admits(&unreachable, START));
        assert!(!filter.admits(&error(kind, &ours, header + 7), START));
        assert!(closed().admits(&error(kind, &tcp(family, ACK, &[], 9), header + 8), START));
        let mut foreign = tcp(family, ACK, &[], 9);
        foreign[if family == 4 { 15 } else { 23 }] ^= 8;
        let quoted = error(kind, &foreign, header + 8);
        assert!(!closed().admits(&quoted, START), "not from us");
    }
}

#[test]
fn an_error_about_an_answer_of_ours_passes_where_the_question_did() {
    let answer = udp(4, 8);
    let asks = [rule(
        &["10.0.0.2/32"],
        &["10.0.0.1/32"],
        &[ports(Some(Named::Udp), 12345, 12345)],
    )];
    assert!(filter(&asks).admits(&error(3, &answer, 28), START));
    assert!(!closed().admits(&error(3, &answer, 28), START));
}

#[test]
fn redirects_and_other_icmp_need_a_rule() {
    let redirect = icmp(4, 5, 28);
    assert!(!closed().admits(&redirect, START));
    assert!(open_to(ports(None, 0, 65535)).admits(&redirect, START));
}

fn fragments(packet: &[u8], mtu: u16) -> Vec<Vec<u8>> {
    let (mut room, mut pieces) = (vec![0; mtu.into()], Vec::new());
    fragment(packet, mtu, &mut room, |piece| pieces.push(piece.to_vec())).unwrap();
    pieces
}

#[test]
fn the_first_fragment_decides_and_later_ones_follow() {
    let pieces = fragments(&udp(4, 1000), 500);
    let mut open = open_to(ports(Some(Named::Udp), 443, 443));
    assert!(!open.admits(&pieces[1], START), "its first has not come");
    assert!(pieces.iter().all(|piece| open.admits(piece, START)));
    assert!(!open.admits(&pieces[1], after(31)));
    let mut closed = closed();
    assert!(!pieces.iter().any(|piece| closed.admits(piece, START)));
}

#[test]
fn ipv6_fragments_are_known_by_their_identification() {
    let fragment_of = |offset: u16, more: bool, id: u8| {
        let mut packet = behind_extensions(&udp(6, 64), &[60, 44]);
        put(&mut packet, 50, offset | u16::from(more));
        packet[55] = id;
        packet
    };
    let mut open = open_to(ports(Some(Named::Udp), 443, 443));
    assert!(open.admits(&fragment_of(0, true, 1), START));
    assert!(open.admits(&fragment_of(72, false, 1), START));
    assert!(!open.admits(&fragment_of(72, false, 2), START));
    assert!(!closed().admits(&fragment_of(0, true, 1), START));
}

#[test]
fn tiny_and_overlapping_fragments_are_refused() {
    let mut open = open_to(ports(None, 0, 65535));
    let pieces = fragments(&tcp(4, SYN, &[], 200), 36);
    assert_eq!(pieces[0].len(), 36);
    assert!(!open.admits(&pieces[0], START), "16 bytes of a TCP header");
    let whole = fragments(&tcp(4, SYN, &[], 200), 52);
    assert!(open.admits(&whole[0], START));
    let mut overlapping = whole[1].clone();
    for offset in [1, 2] {
        put(&mut overlapping, 6, offset);
        assert!(!open.admits(&overlapping, START), "offset {offset}");
    }
    assert!(open.admits(&whole[1], START));
}

#[test]
fn extension_headers_do_not_hide_a_syn() {
    for kinds in [&[60][..], &[0, 60], &[43; 7]] {
        let packet = behind_extensions(&tcp(6, SYN, &[], 0), kinds);
        assert!(!closed().admits(&packet, START), "{kinds:?}");
        assert!(open_to(ports(Some(Named::Tcp), 443, 443)).admits(&packet, START));
        let answer = behind_extensions(&tcp(6, SYN_ACK, &[], 0), kinds);
        assert!(closed().admits(&answer, START), "{kinds:?}");
    }
    let endless = behind_extensions(&tcp(6, ACK, &[], 0), &[60; 9]);
    assert!(!open_to(ports(None, 0, 65535)).admits(&endless, START));
}

#[test]
fn protocols_without_ports_need_a_rule_that_names_them_or_everything() {
    let esp = ip(4, 50, &[0; 40]);
    let numbered = |number| Ports {
        protocol: Some(Protocol::Number(number)),
        first: 0,
        last: 65535,
    };
    assert!(open_to(numbered(50)).admits(&esp, START));
    assert!(open_to(ports(None, 0, 65535)).admits(&esp, START));
    assert!(!open_to(numbered(47)).admits(&esp, START));
    assert!(!open_to(ports(None, 1, 65535)).admits(&esp, START));
    assert!(!closed().admits(&esp, START));
}

#[test]
fn what_is_no_rule_is_named() {
    let all = ports(None, 0, 65535);
    let wrong = |rule| Rules::new(&[rule]).err().unwrap();
    assert!(wrong(rule(&["10.0.0.0/33"], &[], &[all])).contains("10.0.0.0/33"));
    let turned = rule(&[], &[], &[ports(None, 9, 8)]);
    assert!(wrong(turned).contains("9-8"));
}

#[test]
fn a_flood_of_flows_is_held_in_bounded_room() {
    let mut filter = closed();
    let mut packet = with_df(udp(4, 8));
    for number in 0..40_000_u16 {
        put(&mut packet, 20, number);
        filter.sent(&packet, START);
        assert!(filter.sent.len() <= MOST_FLOWS);
    }
    assert!(filter.admits(&back(&packet), START));
}

const FIN: u8 = 1;
