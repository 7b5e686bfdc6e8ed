"""The numbers and structs of rtnetlink that we read, and of requests. pyroute2 encodes what changes something.

Names are those of linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h, linux/neighbour.h, linux/netconf.h,
linux/net_namespace.h and linux/pkt_sched.h.
"""

import socket
import struct
from collections.abc import Mapping
from types import MappingProxyType

FAMILIES: Mapping[int, int] = MappingProxyType({4: socket.AF_INET, 6: socket.AF_INET6})
"""Address families by IP version."""

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30
RTM_NEWQDISC, RTM_DELQDISC, RTM_GETQDISC = 36, 37, 38
RTM_NEWTFILTER, RTM_DELTFILTER, RTM_GETTFILTER = 44, 45, 46
RTM_NEWNETCONF, RTM_DELNETCONF = 80, 81
RTM_GETNSID = 90
RTM_NEWCHAIN, RTM_DELCHAIN = 100, 101
TRAFFIC_CONTROL = (RTM_NEWQDISC, RTM_DELQDISC, RTM_NEWTFILTER, RTM_DELTFILTER, RTM_NEWCHAIN, RTM_DELCHAIN)

_LINK, _NEIGH, _TC, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE = 1, 3, 4, 5, 7, 9, 11
_IPV4_NETCONF, _IPV6_NETCONF = 24, 25
GROUPS = (_LINK, _NEIGH, _TC, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE, _IPV4_NETCONF, _IPV6_NETCONF)
"""The multicast groups (RTNLGRP_*) in which the kernel announces what we look at."""

IFINFOMSG = struct.Struct("=BBHiII")
"""Family, padding, type, index, flags, and which flags are meant."""

IFADDRMSG = struct.Struct("=BBBBI")
"""Family, prefix length, flags, scope, index."""

NDMSG = struct.Struct("=BBHiHBB")
"""Family, padding, padding, index, state, flags, type."""

RTMSG = struct.Struct("=BBBBBBBBI")
"""Family, destination's length, source's, tos, table, protocol, scope, type, flags."""

RTNEXTHOP = struct.Struct("=HBBi")
"""Length, flags, weight, index."""

RTGENMSG = struct.Struct("=Bxxx")
"""Family."""

TCMSG = struct.Struct("=BBHiIII")
"""Family, padding, padding, index, handle, parent, info."""

IFF_UP, IFF_LOOPBACK, IFF_LOWER_UP = 0x1, 0x8, 0x10000

IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_LINK, IFLA_MASTER, IFLA_PROTINFO = 1, 3, 4, 5, 10, 12
IFLA_LINKINFO, IFLA_IFALIAS, IFLA_AF_SPEC, IFLA_EXT_MASK, IFLA_LINK_NETNSID = 18, 20, 26, 29, 37
IFLA_EVENT, IFLA_CARRIER_DOWN_COUNT = 44, 48
IFLA_EVENT_FEATURES = 2
IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_INFO_SLAVE_KIND, IFLA_INFO_SLAVE_DATA = 1, 2, 4, 5
IFLA_VXLAN_ID, IFLA_VXLAN_LOCAL, IFLA_VXLAN_LEARNING, IFLA_VXLAN_PORT, IFLA_VXLAN_LOCAL6 = 1, 4, 7, 15, 17
IFLA_BRPORT_LEARNING, IFLA_BRPORT_UNICAST_FLOOD, IFLA_BRPORT_NEIGH_SUPPRESS = 8, 9, 32
IFLA_INET_CONF, IFLA_INET6_CONF = 1, 2
RTEXT_FILTER_SKIP_STATS = 1 << 3

NETCONFA_IFINDEX, NETCONFA_FORWARDING, NETCONFA_RP_FILTER = 1, 2, 3
NETNSA_NSID, NETNSA_FD = 1, 3

IFA_ADDRESS, IFA_LOCAL = 1, 2
IFA_F_NODAD = 0x02

NDA_DST, NDA_LLADDR, NDA_CACHEINFO, NDA_MASTER, NDA_PROTOCOL = 1, 2, 3, 9, 12
NUD_NOARP, NUD_PERMANENT = 0x40, 0x80
NTF_SELF, NTF_MASTER, NTF_EXT_LEARNED = 0x02, 0x04, 0x10

RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_PRIORITY, RTA_METRICS, RTA_MULTIPATH, RTA_VIA = 1, 4, 5, 6, 8, 9, 18
RTAX_MTU = 2
RT_TABLE_UNSPEC, RT_TABLE_MAIN, RT_TABLE_LOCAL = 0, 254, 255
RT_SCOPE_UNIVERSE, RT_SCOPE_LINK = 0, 253
RTN_UNICAST, RTN_UNREACHABLE = 1, 7
RTNH_F_ONLINK = 4
RTM_F_FIB_MATCH = 0x2000

TCA_KIND, TCA_OPTIONS = 1, 2
TCA_TBF_PARMS, TCA_TBF_RATE64 = 1, 4
TCA_BPF_OPS = 5
TC_H_ROOT, TC_H_INGRESS = 0xFFFFFFFF, 0xFFFFFFF1
