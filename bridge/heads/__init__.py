"""Ready Keras heads: a classifier and a tagger, their metrics, and their training into a run folder."""

from bridge.heads.classifier import classifier
from bridge.heads.data import LabelledData
from bridge.heads.metrics import EntityScores, TokenAccuracy
from bridge.heads.prediction import Head, Prediction
from bridge.heads.tagger import tagger
from bridge.heads.training import train

__all__ = ["EntityScores", "Head", "LabelledData", "Prediction", "TokenAccuracy", "classifier", "tagger", "train"]
