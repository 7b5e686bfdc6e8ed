"""The numbers of nfnetlink that we use (linux/netfilter/nfnetlink.h, nf_tables.h and nfnetlink_conntrack.h)."""

import socket
import struct

from overlayd.kernel.netlink import framing

NETLINK_NETFILTER = 12
NFNLGRP_NFTABLES = 7

NFGENMSG = struct.Struct("=BBH")
"""Family, version, and a number of the subsystem's own."""

_NFNL_SUBSYS_CTNETLINK, _NFNL_SUBSYS_NFTABLES = 1 << 8, 10 << 8
IPCTNL_MSG_CT_GET, IPCTNL_MSG_CT_DELETE = _NFNL_SUBSYS_CTNETLINK | 1, _NFNL_SUBSYS_CTNETLINK | 2
NFT_MSG_NEWGEN = _NFNL_SUBSYS_NFTABLES | 15
_NFT_MSG_GETTABLE, _NFT_MSG_GETGEN = _NFNL_SUBSYS_NFTABLES | 1, _NFNL_SUBSYS_NFTABLES | 16

NFTA_TABLE_NAME, NFTA_GEN_ID = 1, 1


def message(kind: int, family: int = socket.AF_UNSPEC, attributes: bytes = b"", flags: int = 0) -> bytes:
    """Return a request with sequence number 0; `flags` are added to NLM_F_REQUEST."""
    return framing.message(kind, flags, NFGENMSG.pack(family, 0, 0) + attributes)


GENERATION = message(_NFT_MSG_GETGEN)
"""The request for how many transactions of nftables a namespace has seen."""

TABLES = message(_NFT_MSG_GETTABLE, flags=framing.NLM_F_DUMP)
