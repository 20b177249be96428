"""Sound in, sound out: makes it as loud as it can be, and measures it."""

import io

import numpy as np
import soundfile

from tungstenkit import Audio, BaseIO, Field, Option, define_model


class Input(BaseIO):
    audio: Audio = Field(description="WAV, FLAC, Ogg or MP3")
    peak: float = Option(0.9, ge=0, le=1, description="The loudest place; 1 is the most that a file can hold")


class Output(BaseIO):
    audio: Audio = Field(description="A FLAC")
    seconds: float
    loudness: float = Field(
        description="Of what came in: the mean, in dB below the most that a file can hold"
    )


@define_model(
    input=Input,
    output=Output,
    batch_size=4,
    mem_gb=1,
    python_packages=["numpy", "soundfile"],
    system_packages=[],  # "ffmpeg" for what soundfile does not read, such as M4A
    examples=[{"audio": "example.wav"}],
)
class Loudness:
    def setup(self) -> None:
        """Load what is loaded once, such as weights from a file beside this one."""

    def predict(self, inputs: list[Input]) -> list[Output]:
        peak = inputs[0].peak  # all options are equal within a batch
        return [louder(one.audio, peak) for one in inputs]


def louder(audio: Audio, peak: float) -> Output:
    """Your own code in place of this. `samples` has a row for each moment, and a column for each channel."""
    samples, rate = soundfile.read(audio.path, dtype="float32", always_2d=True)
    most = float(np.abs(samples).max(initial=0))
    mean = float(np.sqrt(np.mean(samples**2))) if samples.size else 0.0
    file = io.BytesIO()
    soundfile.write(file, samples * (peak / most if most else 1), rate, format="FLAC")
    return Output(
        audio=Audio.from_bytes(file.getvalue(), "audio/flac"),
        seconds=len(samples) / rate,
        loudness=20 * float(np.log10(max(mean, 1e-6))),
    )
