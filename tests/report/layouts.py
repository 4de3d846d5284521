"""Layouts of the tables that the tasks of an evaluation have."""

from isosphere.report import MEASURES, Layout, measure_words

SHARES = frozenset({"accuracy", "recall@1", "recall@3", "recall@5", "recall@10", "map"})
RECALLS = {"map": "mAP", **{metric: metric.replace("recall", "R") for metric in SHARES if "@" in metric}}
OOD = {
    "auroc": "AUROC",
    "aupr_out": "AUPR out",
    "aupr_in": "AUPR in",
    "fpr@95": "FPR at 95 % TPR",
    "knn": "distance to {neighbour}th neighbour",
    "mahalanobis": "Mahalanobis distance",
    "class-cosine": "cosine to nearest class mean",
    "norm": "short features",
}
GEOMETRY = {
    "mean_cosine": "mean cosine of different images (0 spread, 1 collapse)",
    "uniformity": "uniformity (0 collapse, -4 spread)",
    "effective_rank": "effective rank (at most {dimension})",
    "zscore/mmd-heat": "MMD, heat kernel: z-score",
}

LAYOUTS = {
    "knn": [
        Layout(
            "k-NN accuracy, % [95 %]; k = {k}; {test_images:,} test images",
            columns=("metric",),
            percent=SHARES,
        )
    ],
    "ridge": [
        Layout(
            "Kernel ridge accuracy, % [95 %]; {test_images:,} test images",
            columns=("variant",),
            percent=SHARES,
            words={"exponential": "exponential kernel", "linear": "linear kernel"},
        )
    ],
    "retrieval": [
        Layout(
            "The other view of an image among {targets[batch]}, % [95 %]; {targets[queries]:,} test images",
            only=lambda f: f.variant == "targets" or (f.variant, f.metric) == ("all", "recall@1"),
            percent=SHARES,
            words={**RECALLS, "targets": "", "recall@1/all": "R@1 of {all[candidates_per_query]}"},
        ),
        Layout(
            "Images of the same class among {class_images:,} test images, % [95 %]",
            columns=("metric",),
            only=lambda f: f.variant == "class",
            percent=SHARES,
            words=RECALLS,
        ),
    ],
    "ood": [
        Layout(
            "{each} against the {test_images:,} test images, % [95 %]",
            rows=("model", "layer", "variant"),
            columns=("metric",),
            each=("subset",),
            percent=frozenset({"auroc", "aupr_out", "aupr_in", "fpr@95"}),
            lower=frozenset({"fpr@95"}),
            words=OOD,
            corner="encoder, score",
        )
    ],
    "geometry": [
        Layout(
            "Geometry of the embeddings of {images:,} test images [95 %]",
            rows=("metric", "variant"),
            columns=("model",),
            only=lambda f: any(key.startswith(f.metric) for key in GEOMETRY),
            words=GEOMETRY,
            corner="head",
        )
    ],
    "unlabelled": [
        Layout(
            "Without labels [95 %]; {images:,} test images",
            rows=("metric",),
            columns=("model", "layer"),
            percent=frozenset({"recall@1"}),
            lower=frozenset({"uniformity", "alignment"}),
            words={measure: measure_words(measure) for measure in MEASURES},
            corner="without labels",
        )
    ],
}
