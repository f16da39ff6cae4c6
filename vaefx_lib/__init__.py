"""Spectrogram VAEs of audio effects: the helper library behind the notebooks."""
