"""Prints dashboards/fer-service.json; `make dashboard` writes it there."""

import json
import sys
from dataclasses import dataclass
from typing import TypeVar

from grafana_foundation_sdk.builders import common as look
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as looks
from grafana_foundation_sdk.models import dashboard as model

P = TypeVar("P", stat.Panel, timeseries.Panel)

SOURCE = model.DataSourceRef("prometheus", "prometheus")
# One instance or all; what is recorded by job covers all of them whatever is chosen.
AT = 'job="$job", instance=~"$instance"'
WORK = f'{AT}, http_route=~"/detect-emotions.*|/analyze"'
# What the objective is about, as in the recording rules: a batch may well take longer than one image.
ANSWERED = f'{AT}, http_route=~"/detect-emotions|/analyze", http_response_status_code=~"2.."'
REQUESTS = "http_server_request_duration_seconds"
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
STAGES = ("queue", "decode", "detect", "crop", "classify")


@dataclass(frozen=True)
class Panel:
    """What one panel shows.

    queries: expression by legend; unit: Grafana's name for it; tells: what to make of it; limit: drawn as a
    line; width: of 24.
    """

    title: str
    tells: str
    unit: str
    queries: dict[str, str]
    limit: float | None = None
    width: int = 8


def rate(name: str, selector: str = AT, by: str = "") -> str:
    """The sum of a counter's rates."""
    return f"sum{f' by ({by}) ' if by else ''}(rate({name}{{{selector}}}[$__rate_interval]))"


def quantile(q: float, histogram: str, selector: str) -> str:
    """A quantile of a histogram."""
    return f"histogram_quantile({q}, {rate(f'{histogram}_bucket', selector, by='le')})"


def against_baseline(recorded: str, statistic: str) -> dict[str, str]:
    """The last hour beside the seven days that ended a day ago."""
    return {
        "last hour": f'{recorded}:{statistic}1h{{job="$job"}}',
        "baseline": f'{recorded}:{statistic}_baseline{{job="$job"}}',
    }


GLANCE = [
    Panel("Ready instances", "Those that answer scrapes and /readyz.", "short",
          {"ready": f"sum(fer_ready{{{AT}}})"}, width=4),
    Panel("Requests", "That cost work, a second.", "reqps",
          {"requests": rate(f"{REQUESTS}_count", WORK)}, width=4),
    Panel("Failed", "Images that failed for the service's own reasons.", "percentunit",
          {"failed": 'job:fer_failed_images:ratio_rate5m{job="$job"}'}, limit=0.05, width=4),
    Panel("p95", "Of answered images.", "s",
          {"p95": quantile(0.95, REQUESTS, ANSWERED)}, limit=1, width=4),
    Panel("Slow, last 6 hours", "Answers after more than a second; the objective allows 1 %.", "percentunit",
          {"slow": 'job:fer_slow_requests:ratio_rate6h{job="$job"}'}, limit=0.01, width=4),
    Panel("Saturation", "Admitted requests, of those that can be.", "percentunit",
          {"used": f"sum(fer_inflight_requests{{{AT}}}) / sum(fer_inflight_requests_limit{{{AT}}})"},
          limit=0.8, width=4),
]  # fmt: skip

ROWS = {
    "Rate and errors": [
        Panel("Requests by route", "All requests, probes too.", "reqps",
              {"{{http_route}}": rate(f"{REQUESTS}_count", by="http_route")}),
        Panel("Requests by status", "499: the client hung up.", "reqps",
              {"{{http_response_status_code}}":
               rate(f"{REQUESTS}_count", WORK, by="http_response_status_code")}),
        Panel("Errors by code", "Requests, images of batches and frames of streams.", "reqps",
              {"{{code}}": f"{rate('fer_rejected_total', by='code')} > 0"}),
        Panel("Failed and refused", "Internal errors, passed deadlines, a full queue; and the last alone.",
              "percentunit", {"failed": 'job:fer_failed_images:ratio_rate5m{job="$job"}',
                              "refused": 'job:fer_refused_images:ratio_rate5m{job="$job"}'}, limit=0.05),
        Panel("Streams", "Open ones.", "short", {"open": f"sum(fer_streams{{{AT}}})"}),
        Panel("Frames of streams", "Dropped ones made room for newer ones, as they should.", "cps",
              {"{{outcome}}": rate("fer_stream_frames_total", by="outcome")}),
    ],
    "Latency": [
        Panel("Answered images", "From the head of the request to the end of the answer; no batches.", "s",
              {name: quantile(q, REQUESTS, ANSWERED) for name, q in QUANTILES.items()}, limit=1),
        Panel("Share slower than a second", "The objective allows 1 %; 14.4 % for an hour wakes somebody.",
              "percentunit", {window: f'job:fer_slow_requests:ratio_rate{window}{{job="$job"}}'
                              for window in ("5m", "30m", "1h", "6h")}, limit=0.01),
        Panel("Work by stage", "Seconds of work a second: where the processors' time goes.", "short",
              {"{{stage}}": rate("fer_stage_duration_seconds_sum", f'{AT}, stage!="queue"', by="stage")}),
        *(Panel(f"Stage: {stage}", "Waiting for a worker." if stage == "queue" else "One image.", "s",
                {name: quantile(q, "fer_stage_duration_seconds", f'{AT}, stage="{stage}"')
                 for name, q in QUANTILES.items()})
          for stage in STAGES),
    ],
    "Saturation": [
        Panel("In flight", "At the limit the next request is refused.", "short",
              {"in flight": f"sum(fer_inflight_requests{{{AT}}})",
               "limit": f"sum(fer_inflight_requests_limit{{{AT}}})"}),
        Panel("Queue", "Calls that wait for a worker.", "short",
              {"waiting": f"sum(fer_queue_depth{{{AT}}})"}),
        Panel("Refused and given up", "Refused by a full queue; dropped, as nobody waited or it was late.",
              "reqps", {"refused": rate("fer_rejected_total", f'{AT}, code="overloaded"'),
                        "deadline": rate("fer_rejected_total", f'{AT}, code="deadline_exceeded"'),
                        "dropped": rate("fer_dropped_calls_total")}),
        Panel("CPU", "Cores in use by the service, its decoder processes not counted.", "short",
              {"{{instance}}": rate("process_cpu_seconds_total", by="instance")}),
        Panel("CPU throttling", "Seconds a second that threads waited because the quota was used up. "
              "No data outside of containers.", "short",
              {"{{instance}}": rate("fer_cgroup_cpu_throttled_seconds_total", by="instance")}),
        Panel("Memory", "In use by the container, decoder processes included, and its limit: no data where "
              "there is none. Alert at 90 %. The service alone: resident, without its decoder processes.",
              "bytes",
              {"{{instance}}": f"fer_cgroup_memory_working_set_bytes{{{AT}}}",
               "{{instance}}: limit": f"fer_cgroup_memory_limit_bytes{{{AT}}}",
               "{{instance}}: the service alone": f"process_resident_memory_bytes{{{AT}}}"}),
    ],
    "Faces": [
        Panel("Images and faces a minute", "", "short",
              {"images": f"60 * {rate('fer_faces_per_image_count')}",
               "faces": f"60 * {rate('fer_emotions_total')}"}),
        Panel("Emotions a minute", "Faces by dominant emotion.", "short",
              {"{{emotion}}": f"60 * {rate('fer_emotions_total', by='emotion')}"}),
        Panel("Images in a batch", "Mean.", "short",
              {"images": f"{rate('fer_batch_size_sum')} / {rate('fer_batch_size_count')}"}),
    ],
    "Drift: the last hour against the seven days that ended a day ago": [
        Panel("Label mix", "Share of each emotion.", "percentunit",
              {"{{emotion}}": 'job_emotion:fer_emotions:share1h{job="$job"}'}),
        Panel("Label mix of the baseline", "", "percentunit",
              {"{{emotion}}": 'job_emotion:fer_emotions:share_baseline{job="$job"}'}),
        Panel("Distance of the mixes", "Share of faces that would need another label; alert at 20 %.",
              "percentunit", {"distance": 'job:fer_emotions:distance1h{job="$job"}'}, limit=0.2),
        Panel("Images without a face", "Alert where both are 20 points apart.", "percentunit",
              against_baseline("job:fer_no_face", "share"), width=6),
        Panel("Uncertain faces", "Their answer is wrong more often than right.", "percentunit",
              against_baseline("job:fer_uncertain_faces", "share"), width=6),
        Panel("Entropy", "Mean, over its largest value: 0 is certain, 1 is ignorance.", "percentunit",
              against_baseline("job:fer_emotion_entropy", "mean"), width=6),
        Panel("Face size", "Mean square root of the area, in pixels of the upright image.", "short",
              against_baseline("job:fer_face_size_pixels", "mean"), width=6),
    ],
    "What runs": [
        Panel("Instances by version", "", "short",
              {"{{version}} on Python {{python}}": f"count by (version, python) (fer_build_info{{{AT}}})"},
              width=12),
        Panel("Instances by model", "", "short",
              {"{{name}} {{version}}, {{digest}}":
               f"count by (name, version, digest) (fer_model_info{{{AT}}})"},
              width=12),
    ],
}  # fmt: skip


def number(panel: Panel) -> stat.Panel:
    """A panel at the top: the latest value."""
    shown = _common(stat.Panel(), panel).height(4).graph_mode(looks.BigValueGraphMode.AREA)
    return shown.color_mode(looks.BigValueColorMode.VALUE).thresholds(_thresholds(panel.limit))


def lines(panel: Panel) -> timeseries.Panel:
    """A panel of lines over time."""
    shown = (
        _common(timeseries.Panel(), panel).height(8).fill_opacity(8).show_points(looks.VisibilityMode.NEVER)
    )
    shown = shown.legend(look.VizLegendOptions().show_legend(True).placement(looks.LegendPlacement.BOTTOM))
    shown = shown.tooltip(look.VizTooltipOptions().mode(looks.TooltipDisplayMode.MULTI)).min(0)
    if panel.limit is None:
        return shown
    dashed = look.GraphThresholdsStyleConfig().mode(looks.GraphThresholdsStyleMode.DASHED)
    return shown.thresholds(_thresholds(panel.limit)).thresholds_style(dashed)


def dashboard() -> build.Dashboard:
    """The whole of it."""
    made = build.Dashboard("fer-service").uid("fer-service").tags(["fer-service"]).readonly()
    made = made.time("now-6h", "now").refresh("30s").timezone("browser")
    made = made.tooltip(model.DashboardCursorSync.CROSSHAIR)
    made = made.with_variable(_variable("job", "label_values(fer_ready, job)"))
    instances = _variable("instance", 'label_values(fer_ready{job="$job"}, instance)')
    made = made.with_variable(instances.include_all(True).all_value(".*").multi(True))
    for panel in GLANCE:
        made = made.with_panel(number(panel))
    for title, panels in ROWS.items():
        made = made.with_row(build.Row(title))
        for panel in panels:
            made = made.with_panel(lines(panel))
    return made


def _common(empty: P, panel: Panel) -> P:
    shown = empty.title(panel.title).description(panel.tells).unit(panel.unit).span(panel.width)
    shown = shown.datasource(SOURCE)
    for index, (legend, expression) in enumerate(panel.queries.items()):
        query = prometheus.Dataquery().expr(expression).legend_format(legend).ref_id(chr(ord("A") + index))
        shown = shown.with_target(query.datasource(SOURCE))
    return shown


def _thresholds(limit: float | None) -> build.ThresholdsConfig:
    steps = [model.Threshold(None, "green")]
    if limit is not None:
        steps.append(model.Threshold(limit, "red"))
    return build.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps)


def _variable(name: str, query: str) -> build.QueryVariable:
    variable = build.QueryVariable(name).label(name.capitalize()).query(query).datasource(SOURCE)
    return variable.refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(
        model.VariableSort.ALPHABETICAL_ASC
    )


if __name__ == "__main__":
    json.dump(dashboard().build(), sys.stdout, cls=JSONEncoder, indent=2, sort_keys=True)
    sys.stdout.write("\n")
