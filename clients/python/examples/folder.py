"""All photos of a folder, several at a time, as CSV on standard output.

python folder.py FOLDER [URL]
"""

import asyncio
import csv
import sys
from pathlib import Path

from fer_client import AsyncFerClient, Detection, FerError

AT_A_TIME = 4


async def main(folder: Path, url: str = "http://localhost:8000") -> None:
    """Print one line for each face."""
    paths = sorted(path for path in folder.iterdir() if path.is_file())
    turn = asyncio.Semaphore(AT_A_TIME)
    async with AsyncFerClient(url) as client:

        async def detect(path: Path) -> Detection | FerError:
            async with turn:
                try:
                    return await client.detect(path)
                except FerError as error:
                    return error

        results = await asyncio.gather(*map(detect, paths))
    writer = csv.writer(sys.stdout)
    writer.writerow(["file", "x", "y", "width", "height", "emotion", "uncertain"])
    for path, result in zip(paths, results, strict=True):
        if isinstance(result, FerError):
            print(f"{path.name}: {result}", file=sys.stderr)
            continue
        for face in result.faces:
            box = face.box
            writer.writerow(
                [path.name, box.x, box.y, box.width, box.height, face.dominant_emotion, face.uncertain]
            )


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *sys.argv[2:]))
