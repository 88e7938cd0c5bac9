"""The reference of the predict benchmark: the plainest FastAPI endpoint around the same pickled river model."""

import os
import pickle
from pathlib import Path

from fastapi import FastAPI
from pydantic import BaseModel

model = pickle.loads(Path(os.environ["BARE_MODEL"]).read_bytes())
app = FastAPI()


class Question(BaseModel):
    id: str
    x: dict[str, float | int | str | bool | None]


class Answer(BaseModel):
    id: str
    prediction: bool
    probabilities: dict[str, float]


@app.post("/predict")
async def predict(question: Question) -> Answer:
    """One prediction."""
    shares = model.predict_proba_one(question.x)
    return Answer(
        id=question.id,
        prediction=max(shares, key=shares.get),
        probabilities={str(label): share for label, share in shares.items()},
    )
