//! Which network addresses may be connected to: a pure rule over one address.
//!
//! IPv4 is open except for the networks listed; IPv6 is closed except for global unicast space (2000::/3)
//! without the networks listed, so that space assigned later starts out forbidden. The lists follow IANA's
//! special-purpose registries (RFC 6890 and its updates). An IPv4 address inside an IPv6 one is judged as
//! itself where something would really send it there (mapped, NAT64's well-known prefix, ISATAP); formats that
//! nothing legitimate uses any more (compatible, 6to4, Teredo, local NAT64) are forbidden whatever they embed.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// Why an address may not be connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Forbidden {
    /// 0.0.0.0/8 or `::`: "this host".
    Unspecified,
    /// This machine.
    Loopback,
    /// A private network, unique local and site-local space included.
    Private,
    /// Link-local.
    LinkLocal,
    /// Shared address space of carrier-grade NAT.
    CarrierNat,
    /// A cloud's instance metadata or host service.
    Metadata,
    /// Multicast.
    Multicast,
    /// Limited broadcast.
    Broadcast,
    /// Documentation examples.
    Documentation,
    /// Benchmarking of network devices.
    Benchmarking,
    /// A transition format (IPv4-compatible, 6to4, Teredo, local NAT64) that hides where it leads.
    Translated,
    /// Reserved, or not assigned as global unicast.
    Reserved,
}

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unspecified => "unspecified",
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::LinkLocal => "link-local",
            Self::CarrierNat => "carrier-grade NAT",
            Self::Metadata => "cloud metadata",
            Self::Multicast => "multicast",
            Self::Broadcast => "broadcast",
            Self::Documentation => "documentation",
            Self::Benchmarking => "benchmarking",
            Self::Translated => "translated IPv6",
            Self::Reserved => "reserved",
        })
    }
}

/// May `ip` be connected to? Loopback only if `allow_loopback`; nothing else forbidden can be allowed.
pub fn check(ip: IpAddr, allow_loopback: bool) -> Result<(), Forbidden> {
    match forbidden(ip) {
        None => Ok(()),
        Some(Forbidden::Loopback) if allow_loopback => Ok(()),
        Some(reason) => Err(reason),
    }
}

/// Why `ip` may not be connected to, or `None` for an ordinary public address.
pub fn forbidden(ip: IpAddr) -> Option<Forbidden> {
    match ip {
        IpAddr::V4(v4) => forbidden_v4(v4),
        IpAddr::V6(v6) => forbidden_v6(v6),
    }
}

fn forbidden_v4(ip: Ipv4Addr) -> Option<Forbidden> {
    FORBIDDEN_V4.iter().find(|(net, _)| net.contains(&ip)).map(|&(_, reason)| reason)
}

fn forbidden_v6(ip: Ipv6Addr) -> Option<Forbidden> {
    if let Some(embedded) = embedded_v4(ip) {
        return forbidden_v4(embedded);
    }
    if let Some(&(_, reason)) = FORBIDDEN_V6.iter().find(|(net, _)| net.contains(&ip)) {
        return Some(reason);
    }
    if !GLOBAL_UNICAST.contains(&ip) {
        return Some(Forbidden::Reserved);
    }
    // An ISATAP host tunnels to the IPv4 address in its interface identifier, under any prefix.
    let [_, _, _, _, marker, isatap, high, low] = ip.segments();
    if matches!(marker, 0 | 0x0200) && isatap == 0x5efe {
        return forbidden_v4(v4_of(high, low));
    }
    None
}

/// The IPv4 address a packet to `ip` would end at: mapped, or through NAT64's well-known prefix.
fn embedded_v4(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let [.., high, low] = ip.segments();
    ip.to_ipv4_mapped().or_else(|| NAT64.contains(&ip).then(|| v4_of(high, low)))
}

fn v4_of(high: u16, low: u16) -> Ipv4Addr {
    Ipv4Addr::from((u32::from(high) << 16) | u32::from(low))
}

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(segments: [u16; 8], prefix: u8) -> Ipv6Net {
    let [a, b, c, d, e, f, g, h] = segments;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), prefix)
}

const GLOBAL_UNICAST: Ipv6Net = v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);

/// The first match names the reason, so single addresses stand before the networks around them.
const FORBIDDEN_V4: [(Ipv4Net, Forbidden); 21] = [
    (v4(169, 254, 169, 254, 32), Forbidden::Metadata), // AWS, Azure, Google and most others
    (v4(169, 254, 170, 2, 32), Forbidden::Metadata),   // AWS container credentials
    (v4(100, 100, 100, 200, 32), Forbidden::Metadata), // Alibaba
    (v4(192, 0, 0, 192, 32), Forbidden::Metadata),     // Oracle
    (v4(168, 63, 129, 16, 32), Forbidden::Metadata),   // Azure's host, in public space
    (v4(0, 0, 0, 0, 8), Forbidden::Unspecified),
    (v4(10, 0, 0, 0, 8), Forbidden::Private),
    (v4(100, 64, 0, 0, 10), Forbidden::CarrierNat),
    (v4(127, 0, 0, 0, 8), Forbidden::Loopback),
    (v4(169, 254, 0, 0, 16), Forbidden::LinkLocal),
    (v4(172, 16, 0, 0, 12), Forbidden::Private),
    (v4(192, 0, 0, 0, 24), Forbidden::Reserved), // IETF protocol assignments
    (v4(192, 0, 2, 0, 24), Forbidden::Documentation),
    (v4(192, 88, 99, 0, 24), Forbidden::Reserved), // 6to4 relay anycast, withdrawn
    (v4(192, 168, 0, 0, 16), Forbidden::Private),
    (v4(198, 18, 0, 0, 15), Forbidden::Benchmarking),
    (v4(198, 51, 100, 0, 24), Forbidden::Documentation),
    (v4(203, 0, 113, 0, 24), Forbidden::Documentation),
    (v4(224, 0, 0, 0, 4), Forbidden::Multicast),
    (v4(255, 255, 255, 255, 32), Forbidden::Broadcast),
    (v4(240, 0, 0, 0, 4), Forbidden::Reserved),
];

const FORBIDDEN_V6: [(Ipv6Net, Forbidden); 17] = [
    (v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128), Forbidden::Metadata), // AWS
    (v6([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128), Forbidden::Metadata),  // Google
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 128), Forbidden::Unspecified),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), Forbidden::Loopback),
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 96), Forbidden::Translated), // IPv4-compatible
    (v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48), Forbidden::Translated), // NAT64 of a local network
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32), Forbidden::Translated), // Teredo
    (v6([0x2001, 2, 0, 0, 0, 0, 0, 0], 48), Forbidden::Benchmarking),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), Forbidden::Reserved), // IETF protocol assignments
    (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), Forbidden::Documentation),
    (v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), Forbidden::Translated), // 6to4
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), Forbidden::Documentation),
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), Forbidden::Private), // unique local
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), Forbidden::LinkLocal),
    (v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), Forbidden::Private), // site-local, deprecated
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), Forbidden::Multicast),
    (v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64), Forbidden::Reserved), // discard-only
];

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(address: &str) -> Option<Forbidden> {
        forbidden(address.parse().unwrap())
    }

    #[test]
    fn public_addresses_are_open() {
        for address in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.0.3.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700:4700::1111",
            "2001:4860:4860::8888",
            "2a00:1450:4001:81b::200e",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2a00:1450:4001:81b:0:5efe:808:808",
        ] {
            assert_eq!(reason(address), None, "{address}");
        }
    }

    #[test]
    fn special_ipv4_is_forbidden_to_the_edges_of_each_network() {
        use Forbidden::*;
        for (address, expected) in [
            ("0.0.0.0", Unspecified),
            ("0.255.255.255", Unspecified),
            ("10.0.0.0", Private),
            ("10.255.255.255", Private),
            ("100.64.0.0", CarrierNat),
            ("100.127.255.255", CarrierNat),
            ("100.100.100.200", Metadata),
            ("127.0.0.1", Loopback),
            ("127.255.255.255", Loopback),
            ("168.63.129.16", Metadata),
            ("169.254.0.1", LinkLocal),
            ("169.254.169.254", Metadata),
            ("169.254.170.2", Metadata),
            ("169.254.255.255", LinkLocal),
            ("172.16.0.0", Private),
            ("172.31.255.255", Private),
            ("192.0.0.8", Reserved),
            ("192.0.0.192", Metadata),
            ("192.0.2.1", Documentation),
            ("192.88.99.1", Reserved),
            ("192.168.0.0", Private),
            ("192.168.255.255", Private),
            ("198.18.0.0", Benchmarking),
            ("198.19.255.255", Benchmarking),
            ("198.51.100.7", Documentation),
            ("203.0.113.7", Documentation),
            ("224.0.0.1", Multicast),
            ("239.255.255.255", Multicast),
            ("240.0.0.0", Reserved),
            ("255.255.255.254", Reserved),
            ("255.255.255.255", Broadcast),
        ] {
            assert_eq!(reason(address), Some(expected), "{address}");
        }
    }

    #[test]
    fn special_ipv6_is_forbidden() {
        use Forbidden::*;
        for (address, expected) in [
            ("::", Unspecified),
            ("::1", Loopback),
            ("fc00::1", Private),
            ("fd12:3456:789a::1", Private),
            ("fd00:ec2::254", Metadata),
            ("fd20:ce::254", Metadata),
            ("fe80::1", LinkLocal),
            ("fe80::a9fe:a9fe", LinkLocal),
            ("febf::1", LinkLocal),
            ("fec0::1", Private),
            ("feff::1", Private),
            ("ff02::1", Multicast),
            ("ff0e::1", Multicast),
            ("100::1", Reserved),
            ("2001:db8::1", Documentation),
            ("3fff::1", Documentation),
            ("2001:2::1", Benchmarking),
            ("2001:1::1", Reserved),
            ("2001:20::1", Reserved),
            ("4000::1", Reserved),
            ("5f00::1", Reserved),
            ("1fff::1", Reserved),
        ] {
            assert_eq!(reason(address), Some(expected), "{address}");
        }
    }

    #[test]
    fn ipv4_inside_ipv6_is_judged_as_itself_or_refused() {
        use Forbidden::*;
        for (address, expected) in [
            ("::ffff:127.0.0.1", Loopback),
            ("::ffff:10.0.0.1", Private),
            ("::ffff:169.254.169.254", Metadata),
            ("::ffff:a00:1", Private),
            ("64:ff9b::127.0.0.1", Loopback),
            ("64:ff9b::192.168.1.1", Private),
            ("64:ff9b::a9fe:a9fe", Metadata),
            ("64:ff9b:1::8.8.8.8", Translated),
            ("64:ff9b:1:ffff::10.0.0.1", Translated),
            ("64:ff9b:2::1", Reserved),
            ("::127.0.0.1", Translated),
            ("::8.8.8.8", Translated),
            ("::ffff:0:10.0.0.1", Reserved),
            ("2002:7f00:1::", Translated),
            ("2002:808:808::1", Translated),
            ("2001:0:4136:e378:8000:63bf:3fff:fdd2", Translated),
            ("2a00:1450:4001:81b:0:5efe:a00:1", Private),
            ("2a00:1450:4001:81b:200:5efe:7f00:1", Loopback),
        ] {
            assert_eq!(reason(address), Some(expected), "{address}");
        }
    }

    #[test]
    fn only_loopback_can_be_allowed() {
        assert!(check("127.0.0.1".parse().unwrap(), true).is_ok());
        assert!(check("::1".parse().unwrap(), true).is_ok());
        assert_eq!(check("127.0.0.1".parse().unwrap(), false), Err(Forbidden::Loopback));
        assert_eq!(check("10.0.0.1".parse().unwrap(), true), Err(Forbidden::Private));
        assert_eq!(check("169.254.169.254".parse().unwrap(), true), Err(Forbidden::Metadata));
        assert_eq!(check("0.0.0.0".parse().unwrap(), true), Err(Forbidden::Unspecified));
    }
}
