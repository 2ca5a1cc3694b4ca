"""The model card of a learned classifier."""

from __future__ import annotations

from egt_tf.environment import environment
from egt_tf.export.model_card import card_text, name_and_arguments, signature_lines, table_lines
from egt_tf.export.saved_model import ServableModel
from egt_tf.learning.classifier import FewShotClassifier
from egt_tf.learning.report import accuracy_lines, doubt_lines, promise_lines


def learned_card(classifier: FewShotClassifier, ready: ServableModel, name: str, photos: bool) -> str:
    """The card as Markdown: what was learned, how well it does, what is promised, and what is inside.

    Args:
        classifier: what was learned.
        ready: its signatures.
        name: of the model.
        photos: whether the photographs are inside.
    """
    sections = {
        "": _summary(classifier, ready, photos),
        "Accuracy": [f"- {line}" for line in (*accuracy_lines(classifier), *doubt_lines(classifier))],
        "What is promised": [f"- {line}" for line in promise_lines(classifier)],
        "Photographs": _photographs(photos),
        "Signatures": signature_lines(ready),
        "Known limits": _limits(classifier, ready),
        "Licence": [
            "The package that made this model is licensed under BSD-2-Clause. That says nothing about the photographs "
            "that it was learned from, nor about the weights of the embedding: their licences decide how it may be used."
        ],
    }
    return card_text(name, sections)


def _summary(classifier: FewShotClassifier, ready: ServableModel, photos: bool) -> list[str]:
    packages = environment()["packages"]
    memory = classifier.memory
    size = classifier.image_size
    return table_lines(
        {
            "task": "image classification, learned from a few photographs of each class without training",
            "classes": ", ".join(
                f"{name} ({count})" for name, count in zip(memory.class_names, memory.counts, strict=True)
            ),
            "embedding": name_and_arguments(classifier.embedding),
            "head": name_and_arguments(classifier.head_spec),
            "images": f"{size} x {size} pixels, RGB",
            "composite of relevance": f"`{ready.model.composite.name}`",
            "photographs": "inside" if photos else "not inside",
            "made by": ", ".join(f"{each} {packages[each]}" for each in ("egt-tf", "tensorflow") if packages[each]),
        }
    )


def _photographs(photos: bool) -> list[str]:
    if photos:
        return [
            "The photographs that it was learned from are INSIDE, at the network's size, for explanations: who has the "
            "model has them. `egt-tf learn --without-photos` leaves them out."
        ]
    return [
        "The photographs that it was learned from are NOT inside; their features and the names of their files are. "
        "Explanations that show them are not possible, all else is."
    ]


def _limits(classifier: FewShotClassifier, ready: ServableModel) -> list[str]:
    calibrated = (
        "- `probabilities` are of the classes, as if the image showed one of them; `known` says whether it does."
        if classifier.results
        else "- `probabilities` are not calibrated, and `known` is always true: no class has a second photograph."
    )
    return [
        calibrated,
        "- What is promised holds for images of the same kind as the photographs, such as the same camera and place.",
        "- Relevance says which pixels the prediction used, not whether it is right.",
        f"- Only JPEG and PNG of at most {ready.limits.size} are decoded.",
        f"- A request may hold at most {ready.limits.max_images} images, support images and queries together.",
    ]
