"""Tells the species of an iris by a forest that is trained while the image is built."""

import joblib

from tungstenkit import BaseIO, Field, define_model

MODEL = "iris.joblib"
FEATURES = ("sepal_length", "sepal_width", "petal_length", "petal_width")


class Input(BaseIO):
    sepal_length: float = Field(ge=0, le=30, description="In centimetres, as all of them.")
    sepal_width: float = Field(ge=0, le=30)
    petal_length: float = Field(ge=0, le=30)
    petal_width: float = Field(ge=0, le=30)


class Output(BaseIO):
    species: str
    probability: float


@define_model(
    input=Input,
    output=Output,
    batch_size=64,
    python_packages=["scikit-learn"],
    python_version="3.11",
    examples=[{"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}],
)
class Iris:
    @staticmethod
    def post_build():
        """Trained while the image is built: the same forest wherever that is."""
        from sklearn.datasets import load_iris
        from sklearn.ensemble import RandomForestClassifier

        flowers = load_iris()
        forest = RandomForestClassifier(n_estimators=50, random_state=0)
        forest.fit(flowers.data, flowers.target)
        print(f"{forest.score(flowers.data, flowers.target):.1%} of the flowers are known again")
        joblib.dump((forest, list(flowers.target_names)), MODEL)

    def setup(self):
        self.forest, self.names = joblib.load(MODEL)

    def predict(self, inputs: list[Input]) -> list[Output]:
        flowers = [[getattr(one, feature) for feature in FEATURES] for one in inputs]
        answers = []
        for probabilities in self.forest.predict_proba(flowers):
            best = probabilities.argmax()
            answers.append(Output(species=str(self.names[best]), probability=float(probabilities[best])))
        return answers
