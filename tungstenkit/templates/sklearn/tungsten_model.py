"""A model of scikit-learn's, trained on a table while the image is built: guesses what a flat is let for."""

import csv
from pathlib import Path

import joblib

from tungstenkit import BaseIO, Field, define_model

DATA = "data.csv"  # put your own table here; what is guessed is the column TARGET
TARGET = "rent"
FEATURES = ("area", "rooms", "floor", "minutes")
MODEL = "model.joblib"


class Input(BaseIO):
    area: float = Field(ge=0, le=1000, description="In square metres")
    rooms: float = Field(ge=0, le=50)
    floor: int = Field(ge=0, le=200)
    minutes: float = Field(ge=0, le=600, description="From the station, on foot")


class Output(BaseIO):
    rent: float


@define_model(
    input=Input,
    output=Output,
    batch_size=64,
    mem_gb=1,
    python_packages=["scikit-learn"],
    examples=[{"area": 54, "rooms": 2, "floor": 3, "minutes": 8}],
)
class Rent:
    @staticmethod
    def post_build() -> None:
        """Runs while the image is built; what it leaves in this folder is in the image."""
        from sklearn.linear_model import Ridge
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        with Path(DATA).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        known = [[float(row[name]) for name in FEATURES] for row in rows]
        rents = [float(row[TARGET]) for row in rows]
        model = make_pipeline(StandardScaler(), Ridge()).fit(known, rents)
        print(f"trained on {len(rows)} rows, R² {model.score(known, rents):.2f}")
        joblib.dump(model, MODEL)

    def setup(self) -> None:
        self.model = joblib.load(MODEL)

    def predict(self, inputs: list[Input]) -> list[Output]:
        flats = [[getattr(one, name) for name in FEATURES] for one in inputs]
        return [Output(rent=round(float(rent), 2)) for rent in self.model.predict(flats)]
