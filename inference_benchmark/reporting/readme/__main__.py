"""Writes the tables of both READMEs anew."""

from inference_benchmark.reporting.readme.files import fill
from inference_benchmark.reporting.readme.sections import FILES


def main() -> None:
    for path, sections in FILES.items():
        path.write_text(fill(path.read_text(), sections))


if __name__ == "__main__":
    main()
