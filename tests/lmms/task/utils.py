from datasets import Image


def with_pictures(docs, folder="data"):
    """Pictures as the data sets of lmms-eval's tasks hold them: decoded when they are looked at."""
    return docs.map(lambda doc: {"image": f"{folder}/{doc['image']}"}).cast_column("image", Image())


def with_options(docs):
    docs = docs.map(lambda doc: {"letter": f"({doc['answer']})", "options": list(doc["choices"].values())})
    return with_pictures(docs.remove_columns("choices").rename_column("options", "choices"), "choices")


def pictures(doc):
    return [doc["image"].convert("RGB")]
