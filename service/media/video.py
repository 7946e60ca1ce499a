"""`fer-service video`: from frames to rows, timeline and summary. Needs the `[media]` extra."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass

from service.media.analyzers import Analyzer
from service.media.audience import Segment
from service.media.errors import MediaError, SourceError
from service.media.frames import Video
from service.media.outputs import FrameOutputs, Paths, frame_outputs
from service.media.programme import Programme, Reporter, samples, write_json
from service.media.progress import playing
from service.media.timeline import draw_timeline


@dataclass(frozen=True, slots=True)
class VideoRun:
    """What to do. name: of the programme; every_s: seconds between analyzed frames.

    window_s: seconds of a step of the timeline. report_every_s: how often a live camera's figures are told.
    held: around what no interrupt should break into. clock: seconds, by which telling takes its time.
    """

    name: str
    every_s: float
    window_s: float
    segments: list[Segment]
    paths: Paths
    thumbnails: bool
    workers: int
    report_every_s: float
    held: Callable[[], AbstractContextManager[None]] = nullcontext
    clock: Callable[[], float] = time.monotonic


def run_video(run: VideoRun, video: Video, analyzer: Analyzer, say: Callable[[str], None]) -> bool:
    """Work through the video and write every output; tells whether it came to its own end.

    An interrupt (Ctrl-C) ends the programme there, and so does a camera or server that is gone, or a full
    disk: what was seen until then is completed and written.
    say: takes lines for the person who watches. Raises MediaError, or OSError.
    """
    programme = Programme(run.name, run.every_s, run.window_s, run.segments, run.thumbnails)
    session = _Session(run, video, analyzer, programme, say)
    with ExitStack() as completion:
        try:
            with frame_outputs(run.paths) as outputs:
                try:
                    complete = session.play(outputs)
                finally:  # what is done by now, and perhaps took hours, is not to be cut short
                    completion.enter_context(run.held())
        except (MediaError, OSError):
            if programme.begun:
                session.finish(complete=False)
            raise
        if complete and not programme.begun:
            raise SourceError(f"{run.name}: no picture in it can be decoded")
        session.finish(complete)
    return complete


@dataclass(frozen=True, slots=True)
class _Session:
    """A run that is under way."""

    run: VideoRun
    video: Video
    analyzer: Analyzer
    programme: Programme
    say: Callable[[str], None]

    def play(self, outputs: FrameOutputs) -> bool:
        """Take in frame after frame; False when interrupted."""
        run, shown_s, complete = self.run, 0.0, False
        reporter = Reporter(run.report_every_s, lambda: self.report(complete=False), run.clock)
        found = samples(self.video, self.analyzer, run.every_s, run.workers, self.programme.refuse)
        try:
            with closing(found), playing(self.video.duration_s) as meter:
                for sample in found:
                    with run.held():  # else a frame would be in some outputs and not in the others
                        outputs.add(sample)
                        self.programme.add(sample)
                    meter.advance(sample.frame.time_s - shown_s)
                    shown_s = sample.frame.time_s
                    if self.video.live:
                        reporter.at(shown_s)
            complete = True
        except KeyboardInterrupt:
            pass
        finally:
            self.programme.ended(self.video.end_s, complete)
            outputs.ended(self.programme.end_s)
        return complete

    def finish(self, complete: bool) -> None:
        """Write what is written at the end."""
        self.report(complete)
        if path := self.run.paths.timeline:
            title = f"{self.run.name}: reaction timeline, model {self.analyzer.model.name}"
            seen = self.programme
            draw_timeline(path, title, seen.windows, seen.moments, seen.thumbnails())
        if self.video.damaged:
            self.say(f"{self.video.damaged} damaged packet(s) could not be decoded and were passed over")
        if self.programme.refused:
            refused, why = self.programme.refused, self.programme.refusal
            self.say(f"{refused} frame(s) were refused and passed over: {why}")

    def report(self, complete: bool) -> None:
        """Tell the aggregate so far, and write it down."""
        self.say(self.programme.line())
        if self.run.paths.summary:
            summary = self.programme.summary(self.video, self.analyzer.model, complete)
            write_json(self.run.paths.summary, summary)
