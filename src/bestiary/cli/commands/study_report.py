"""`bestiary study report`."""

from pathlib import Path
from typing import Annotated

import typer

from bestiary.cli.options import Json
from bestiary.cli.output import print_heading, print_json
from bestiary.errors import RunError


def study_report(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Of the study, finished or not.")],
    as_json: Json = False,
) -> None:
    """What has the study found? Write its report, and print the verdict.

    The report is one file, readable without a network; tables (CSV, JSON, LaTeX) and figures (SVG) stand
    beside it. Nothing is trained and nothing is scored. Of a study that is still running, it says what was
    found so far.
    """
    from bestiary.report import write_study_report
    from bestiary.study.analysis.analysis import analyse
    from bestiary.study.analysis.verdict import study_verdict
    from bestiary.study.execution.outcome import read_results

    results = read_results(folder)
    findings = study_verdict(analyse(results))
    try:
        report = write_study_report(results, folder)
    except OSError as error:
        raise RunError(f"{folder}: cannot write the report ({error}), wanted a folder to write in") from error
    if as_json:
        print_json({"report": str(report), "verdict": {found.topic: found.text for found in findings}})
        return
    for found in findings:
        print_heading(found.topic)
        print(found.text)
    print_heading("Report")
    print(report)
