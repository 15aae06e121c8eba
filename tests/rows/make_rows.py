"""Writes the same twelve rows as JSON lines, as GLUE's TSV and as Hugging Face's Parquet.

Made with Python 3.11 and pyarrow 26.0.1:

    pip install pyarrow==26.0.1
    python3 tests/rows/make_rows.py

The sentences are ours. The columns and their order are those of GLUE's MNLI.zip and of nyu-mll/glue; of GLUE's parse
trees a short stand-in is kept, since only their place among the columns matters.
"""

import json
import pathlib

import pyarrow
import pyarrow.parquet

HERE = pathlib.Path(__file__).parent
LABELS = ["entailment", "neutral", "contradiction"]

# Premise, hypothesis, id of the label or -1. Text that a careless reader would change: quotation marks that are never
# closed, blanks at the ends, commas, backslashes, letters beyond ASCII, an end of text written out.
ROWS = [
    ("The ferry left at noon with forty passengers.", "A ferry left.", 0),
    ('"I never said that, he muttered.', "He denied it. ", 1),
    ("The museum is closed on Mondays, and on holidays.", "On Mondays the museum is open.", 2),
    (" yeah well uh i guess so", "I suppose so.", 0),
    ("She sent 1,200 letters; none came back.", "Every letter was answered.", 2),
    ("Zo\u00eb's caf\u00e9 \u2014 the one by the canal \u2014 burned down.", "A caf\u00e9 burned.", 0),
    ("The path C:\\temp\\new is wrong.", "The path has \\t in it.", 1),
    ("No.", "It was a 'no', not a \"yes\".", -1),
    ("\u4f60\u597d means hello.", "Hello has a translation.", 0),
    ("The committee met twice in March.", "The committee met in the evening.", 1),
    ("He writes <|endoftext|> at the end.", "He writes nothing at the end.", 2),
    ("Rents fell by 3.5% last year.", "Rents rose last year.", 2),
]


def write_json_lines(path):
    with open(path, "w", encoding="utf-8") as out:
        for premise, hypothesis, label in ROWS:
            gold = LABELS[label] if label >= 0 else "-"
            row = {"sentence1": premise, "sentence2": hypothesis, "gold_label": gold}
            out.write(json.dumps(row, ensure_ascii=False) + "\n")


def write_tsv(path):
    header = (
        "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse sentence2_parse "
        "sentence1 sentence2 label1 gold_label"
    ).split()
    with open(path, "w", encoding="utf-8", newline="\n") as out:
        out.write("\t".join(header) + "\n")
        for index, (premise, hypothesis, label) in enumerate(ROWS):
            gold = LABELS[label] if label >= 0 else "-"
            trees = ["( a ( b . ) )", "( c . )", "(ROOT (NP (DT a)))", "(ROOT (NP (DT c)))"]
            values = [str(index), str(index), f"{index}n", "travel", *trees, premise, hypothesis, gold, gold]
            out.write("\t".join(values) + "\n")


def write_parquet(path):
    table = pyarrow.table(
        {
            "premise": pyarrow.array([row[0] for row in ROWS], pyarrow.string()),
            "hypothesis": pyarrow.array([row[1] for row in ROWS], pyarrow.string()),
            "label": pyarrow.array([row[2] for row in ROWS], pyarrow.int64()),
            "idx": pyarrow.array(range(len(ROWS)), pyarrow.int32()),
        }
    )
    pyarrow.parquet.write_table(table, path, compression="snappy")


if __name__ == "__main__":
    for folder in ["GLUE/MNLI", "hub/mnli"]:
        (HERE / folder).mkdir(parents=True, exist_ok=True)
    write_json_lines(HERE / "train.jsonl")
    write_tsv(HERE / "GLUE/MNLI/train.tsv")
    write_parquet(HERE / "hub/mnli/train-00000-of-00001.parquet")
