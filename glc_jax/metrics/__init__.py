"""Measures of quality and of rate, equal to the usual PyTorch packages'.

Of pairs of images: `psnr`, `ms_ssim`, `lpips`, `dists`. Of sets of images: `fid`, `kid`, on the
features of `features.inception` for the patches of `patches`. Of curves: `bd_rate`.
"""
