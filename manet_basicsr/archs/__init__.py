"""Architectures; importing this package registers them with BasicSR."""

from __future__ import annotations

from manet_basicsr.archs.blind_sr_arch import BlindSRNet
from manet_basicsr.archs.cfsnet_arch import CFSNet
from manet_basicsr.archs.cresmd_arch import CResMD
from manet_basicsr.archs.dan_arch import DANNet
from manet_basicsr.archs.han_arch import HAN
from manet_basicsr.archs.ikc_arch import IKCNet
from manet_basicsr.archs.ma_edsr_arch import MAEDSR
from manet_basicsr.archs.maconv_arch import MABlock, MAConv
from manet_basicsr.archs.manet_arch import MANet
from manet_basicsr.archs.sft_rrdb_arch import SFTRRDBNet
from manet_basicsr.archs.sftmd_arch import SFTMD
from manet_basicsr.archs.srmd_arch import SRMDNet
from manet_basicsr.archs.srsvd_arch import SRSVDNet

__all__ = [
    'HAN',
    'MAEDSR',
    'SFTMD',
    'BlindSRNet',
    'CFSNet',
    'CResMD',
    'DANNet',
    'IKCNet',
    'MABlock',
    'MAConv',
    'MANet',
    'SFTRRDBNet',
    'SRMDNet',
    'SRSVDNet',
]
