"""What the networks are to say: soft labels, and beside them the shares of FER+'s votes."""

import torch
from torch import Tensor
from torch.nn import functional as F

from training.config import Config
from training.data import DataError, Faces, vote_shares
from training.label_sets import has_votes
from training.shufflenet import EMOTIONS


def targets(faces: Faces, smoothing: float, votes: bool) -> Tensor:
    """Soft labels (N, 7): the smoothed FER2013 label; with votes (N, 14): beside it their shares, if any."""
    hard = F.one_hot(torch.from_numpy(faces.labels), EMOTIONS).float()
    smooth = hard * (1 - smoothing) + smoothing / EMOTIONS
    return torch.cat((smooth, torch.from_numpy(vote_shares(faces.votes))), 1) if votes else smooth


def fit_tensors(config: Config, fit: Faces, device: torch.device) -> tuple[Tensor, Tensor]:
    """Images (N, 1, 48, 48) uint8 and targets (N, 7 or 14) of the faces to train on."""
    images = torch.from_numpy(fit.images)[:, None].to(device)
    return images, targets(fit, config.smoothing, bool(config.votes)).to(device)


def need_votes(config: Config, faces: Faces) -> None:
    """Raise DataError where a head for the votes would learn nothing, and count in the loss."""
    if config.votes and not has_votes(faces):
        raise DataError("the data has no FER+ votes: pass --ferplus with fer2013new.csv, or --set votes=0")
